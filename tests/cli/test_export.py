"""`quintet export` as a user types it."""

import json
import re
from pathlib import Path

from quintet.config import Project
from tests.cli.conftest import Shell


def test_help_shows_an_example_of_each_format(quintet: Shell) -> None:
    code, out, _ = quintet("export", "--help")
    assert code == 0
    assert re.search(r"Examples: quintet export hr", out)
    for word in ("gguf", "adapter", "merged", "--dtype", "--force"):
        assert word in out


def test_an_expert_is_written_into_the_project_and_its_proof_is_shown(quintet: Shell, trained: Project) -> None:
    code, out, err = quintet("export", "hr", "-p", trained.root)
    assert code == 0, err
    folder = trained.root / "exports" / "hr@1-merged"
    assert (folder / "model.safetensors").is_file()
    assert f"Wrote hr@1 (merged, float32, {sum(f.stat().st_size for f in folder.iterdir()) / 1e6:.1f} MB)" in out
    assert "100% of the answers are the same" in out
    assert "(may differ by 0.01)" in out
    assert "(may differ by 1%)" in out


def test_what_is_there_is_replaced_by_force_alone(quintet: Shell, trained: Project, tmp_path: Path) -> None:
    arguments = ("export", "hr@1", "--format", "adapter", "--to", tmp_path / "out", "-p", trained.root)
    assert quintet(*arguments)[0] == 0
    code, _, err = quintet(*arguments)
    assert code == 10
    assert "holds an export already; pass --force" in err
    assert quintet(*arguments, "--force")[0] == 0


def test_json_tells_what_was_written(quintet: Shell, trained: Project, tmp_path: Path) -> None:
    told = quintet.json("export", "hr", "--format", "gguf", "--to", tmp_path / "out", "-p", trained.root)
    assert (told["expert"], told["format"], told["dtype"]) == ("hr@1", "gguf", "float16")
    assert Path(told["folder"]) == tmp_path / "out"
    assert told["proof"]["questions"] == 4
    assert told["proof"]["same_answers"] == 1
    stored = json.loads((tmp_path / "out" / "export.json").read_text())
    assert stored["proof"] == told["proof"]
    assert stored["digest"] == told["digest"]


def test_a_mistake_is_explained_without_a_traceback(quintet: Shell, trained: Project) -> None:
    for arguments, code, message in (
        (("legal",), 4, "there is no model named 'legal'"),
        (("hr@9",), 4, "there is no model named 'hr@9'"),
        (("hr", "--format", "adapter", "--dtype", "float16"), 10, "--dtype goes with --format merged or gguf"),
        (("hr", "--to", str(trained.root)), 10, "is no export of Quintet's; name another folder by --to"),
    ):
        found, _, err = quintet("export", *arguments, "-p", trained.root)
        assert found == code
        assert message in err
        assert "Traceback" not in err
