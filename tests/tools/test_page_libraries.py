"""The libraries of the page are copied as they were published."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tools.page_libraries.copy import HERE, PAGE, REFERENCE, Vendored, copied, copy, for_a_browser


def made_packages(folder: Path) -> Path:
    for name in (*PAGE.files, *PAGE.licences):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"// {name}\n")
    return folder


def names_in(vendored: Vendored) -> set[str]:
    return {*vendored.files.values(), *(f"licences/{name}" for name in vendored.licences.values())}


def test_each_library_is_copied_with_its_licence_and_nothing_else_stays(tmp_path: Path) -> None:
    target = tmp_path / "vendor"
    (target / "old").mkdir(parents=True)
    (target / "old/gone.js").write_text("")
    copy(made_packages(tmp_path / "packages"), replace(PAGE, folder=target))
    found = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    assert found == names_in(PAGE)
    assert (target / "marked.js").read_text() == "// marked/lib/marked.esm.js\n"


def test_a_browser_finds_what_a_module_imports() -> None:
    script = 'import{options as n}from"preact";f("preact");\n//# sourceMappingURL=hooks.mjs.map\n'
    assert for_a_browser(script) == 'import{options as n}from"./preact.js";f("preact");\n'


@pytest.mark.parametrize("vendored", [PAGE, REFERENCE])
def test_what_the_package_holds_are_these_files_alone(vendored: Vendored) -> None:
    found = {path.relative_to(vendored.folder).as_posix() for path in vendored.folder.rglob("*") if path.is_file()}
    assert found == names_in(vendored)


@pytest.mark.slow
def test_what_the_package_holds_is_what_npm_has(tmp_path: Path) -> None:
    if shutil.which("npm") is None:
        pytest.skip("there is no npm")
    for name in ("package.json", "package-lock.json", ".npmrc"):
        shutil.copy(HERE / name, tmp_path)
    subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit"], cwd=tmp_path, check=True, timeout=120)
    for vendored in (PAGE, REFERENCE):
        for name, text in copied(tmp_path / "node_modules", vendored).items():
            assert (vendored.folder / name).read_text("utf-8") == text, name
