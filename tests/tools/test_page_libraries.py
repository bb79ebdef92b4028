"""The libraries of the page are copied as they were published."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tools.page_libraries.copy import FILES, HERE, LICENCES, TARGET, copied, copy, for_a_browser


def made_packages(folder: Path) -> Path:
    for name in (*FILES, *LICENCES):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"// {name}\n")
    return folder


def test_each_library_is_copied_with_its_licence_and_nothing_else_stays(tmp_path: Path) -> None:
    target = tmp_path / "vendor"
    (target / "old").mkdir(parents=True)
    (target / "old/gone.js").write_text("")
    copy(made_packages(tmp_path / "packages"), target)
    found = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    assert found == {*FILES.values(), *(f"licences/{name}" for name in LICENCES.values())}
    assert (target / "marked.js").read_text() == "// marked/lib/marked.esm.js\n"


def test_a_browser_finds_what_a_module_imports() -> None:
    script = 'import{options as n}from"preact";f("preact");\n//# sourceMappingURL=hooks.mjs.map\n'
    assert for_a_browser(script) == 'import{options as n}from"./preact.js";f("preact");\n'


def test_what_the_package_holds_are_these_files_alone() -> None:
    found = {path.relative_to(TARGET).as_posix() for path in TARGET.rglob("*") if path.is_file()}
    assert found == {*FILES.values(), *(f"licences/{name}" for name in LICENCES.values())}


@pytest.mark.slow
def test_what_the_package_holds_is_what_npm_has(tmp_path: Path) -> None:
    if shutil.which("npm") is None:
        pytest.skip("there is no npm")
    for name in ("package.json", "package-lock.json", ".npmrc"):
        shutil.copy(HERE / name, tmp_path)
    subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit"], cwd=tmp_path, check=True, timeout=120)
    for name, text in copied(tmp_path / "node_modules").items():
        assert (TARGET / name).read_text("utf-8") == text, name
