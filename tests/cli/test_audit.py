"""The trail of administrative acts, on the command line."""

from datetime import UTC, datetime, timedelta

import pytest

from quintet.config import Project
from quintet.registry.audit import write_act
from quintet.registry.database import writing
from tests.cli.conftest import Shell


@pytest.fixture
def done(project: Project) -> Project:
    """A project to which a few things were done."""
    with writing(project) as session:
        write_act(session, "release", "hr", 3, by="ada@lab3", reason="better", split=[[3, 100]])
        write_act(session, "revoke key", key_id="4f7k2m9x1c3d", by="ada@lab3", name="payroll")
        write_act(session, "release", "finance", 1, by="max@lab3", split=[[1, 100]])
        old = write_act(session, "release", "hr", 1, by="max@lab3")
        old.at = datetime.now(UTC) - timedelta(days=40)
    return project


def test_all_that_was_done_is_shown_oldest_first(quintet: Shell, done: Project) -> None:
    acts = quintet.json("audit", "-p", done.root)
    assert [(act["act"], act["department"], act["key_id"]) for act in acts][:3] == [
        ("release", "hr", None), ("revoke key", None, "4f7k2m9x1c3d"), ("release", "finance", None),
    ]  # fmt: skip
    assert acts[0] | {"at": ""} == {
        "at": "", "who": "ada@lab3", "act": "release", "department": "hr", "version": 3, "key_id": None,
        "reason": "better", "details": {"split": [[3, 100]]},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "versions"),
    [
        (["-d", "hr"], [3, 1]),
        (["-d", "hr", "--since", "30d"], [3]),
        (["--key", "4f7k2m9x1c3d"], [None]),
        (["--act", "release", "--who", "max@lab3"], [1, 1]),
        (["--limit", "2"], [1, 1]),
        (["--since", "2999-01-01"], []),
    ],
)
def test_acts_are_found_by_what_they_were(
    quintet: Shell, done: Project, options: list[str], versions: list[int | None]
) -> None:
    assert [act["version"] for act in quintet.json("audit", *options, "-p", done.root)] == versions


def test_people_see_a_table(quintet: Shell, done: Project, project: Project) -> None:
    _, out, _ = quintet("audit", "-p", done.root)
    for word in ("ada@lab3", "hr@3", "better", "4f7k2m9x1c3d"):
        assert word in out
    assert "nothing of that kind" in quintet("audit", "--act", "reload", "-p", done.root)[1]


def test_a_time_that_is_none_is_refused(quintet: Shell, done: Project) -> None:
    code, _, err = quintet("audit", "--since", "lately", "-p", done.root)
    assert code == 2
    assert "expected 90d, 12h, or a date" in err
