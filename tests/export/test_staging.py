"""A folder appears whole or not at all, and only an export is ever replaced."""

from pathlib import Path

import pytest

from quintet.errors import ExportError
from quintet.export.staging import EXPORT_FILE, check_target, staged


def fill(folder: Path, text: str) -> None:
    (folder / EXPORT_FILE).write_text(text)


def test_the_folder_is_there_only_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "exports" / "hr"
    with staged(target) as folder:
        fill(folder, "new")
        assert not target.exists()
    assert (target / EXPORT_FILE).read_text() == "new"
    assert list(target.parent.iterdir()) == [target]


def test_an_error_leaves_nothing_not_even_the_folders_that_were_made(tmp_path: Path) -> None:
    def stopped() -> None:
        with staged(tmp_path / "a" / "b" / "hr") as folder:
            fill(folder, "half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert list(tmp_path.iterdir()) == []


def test_an_export_is_replaced_by_force_alone(tmp_path: Path) -> None:
    target = tmp_path / "hr"
    target.mkdir()
    fill(target, "old")
    with pytest.raises(ExportError, match="holds an export already; pass --force"):
        check_target(target, force=False)
    check_target(target, force=True)
    with staged(target) as folder:
        fill(folder, "new")
    assert (target / EXPORT_FILE).read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_what_is_no_export_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    for target in (tmp_path, tmp_path / "thesis.txt"):
        with pytest.raises(ExportError, match="is no export of Quintet's; name another folder"):
            check_target(target, force=True)


def test_an_empty_folder_may_be_filled(tmp_path: Path) -> None:
    check_target(tmp_path, force=False)
