"""Which version answers for a department: releases, shares, and the way back."""

import time
from collections import Counter
from dataclasses import replace

import pytest

from quintet.config import Project
from quintet.errors import MissingFilesError, NotReleasedError, NotTrainedError, RegistryError, UnknownModelError
from quintet.registry.audit import current_user, read_acts
from quintet.registry.deletion import delete_expert
from quintet.registry.experts import new_run
from quintet.registry.releases import history, live, pick, release, released_expert, rollback
from tests.registry.making import make_expert, stage

KEYS = [f"Question {number}?" for number in range(20_000)]


@pytest.fixture
def company(project: Project) -> Project:
    """A project with four experts, none of them released."""
    for _ in range(4):
        make_expert(project)
    return project


def splits(project: Project) -> list[tuple[tuple[int, int], ...]]:
    return [entry.split for entry in history(project, "hr")]


def test_nothing_is_live_before_the_first_release(company: Project) -> None:
    assert live(company, "hr") is None
    with pytest.raises(NotReleasedError, match="quintet release hr 4"):
        released_expert(company, "hr")


def test_a_department_without_an_expert_is_told_to_train_first(project: Project) -> None:
    with pytest.raises(NotTrainedError, match="quintet train hr"):
        released_expert(project, "hr")
    with pytest.raises(NotTrainedError, match="quintet train hr"):
        rollback(project, "hr")
    with pytest.raises(UnknownModelError):
        release(project, "hr", 1)


def test_a_release_answers_until_the_next(company: Project) -> None:
    for version in (1, 3, 2):
        release(company, "hr", version)
        assert released_expert(company, "hr").name == f"hr@{version}"


def test_a_version_is_had_by_its_name_whatever_is_released(company: Project) -> None:
    release(company, "hr", 1)
    assert released_expert(company, "hr@3").name == "hr@3"


def test_a_release_says_who_when_and_why(company: Project) -> None:
    release(company, "hr", 1, reason="first", by="ada@lab")
    made = release(company, "hr", 2, forced=True)
    assert history(company, "hr")[0] == made == live(company, "hr")
    first = history(company, "hr")[1]
    assert (first.by, first.reason, first.forced) == ("ada@lab", "first", False)
    assert (made.by, made.reason, made.forced) == (current_user(), None, True)
    assert 0 <= time.time() - made.since.timestamp() < 60
    assert [(act.act, act.version, act.who) for act in read_acts(company, "hr")][-2:] == [
        ("release", 1, "ada@lab"), ("release", 2, current_user()),
    ]  # fmt: skip


def test_what_is_live_already_is_not_released_again(company: Project) -> None:
    first = release(company, "hr", 1)
    assert release(company, "hr", 1, reason="again") == first
    assert len(history(company, "hr")) == 1


def test_departments_are_released_apart(company: Project) -> None:
    make_expert(company, "finance")
    release(company, "hr", 2)
    release(company, "finance", 1)
    assert rollback_fails(company, "finance")
    assert released_expert(company, "hr").name == "hr@2"


def rollback_fails(project: Project, department: str) -> bool:
    with pytest.raises(RegistryError, match=rf"no release before .*'{department}'; .*quintet release {department}"):
        rollback(project, department)
    return True


def test_a_rollback_restores_what_answered_before(company: Project) -> None:
    for version in (1, 2, 3):
        release(company, "hr", version)
    restored = rollback(company, "hr", reason="worse", by="ada@lab")
    assert (restored.split, restored.reason, restored.by) == (((2, 100),), "worse", "ada@lab")
    assert live(company, "hr") == restored


def test_a_second_rollback_goes_one_further_back_and_a_third_has_nowhere_to_go(company: Project) -> None:
    for version in (1, 2, 3):
        release(company, "hr", version)
    assert [rollback(company, "hr").versions for _ in range(2)] == [(2,), (1,)]
    assert rollback_fails(company, "hr")
    assert splits(company)[0] == ((1, 100),)


def test_a_release_after_a_rollback_is_rolled_back_to_what_it_followed(company: Project) -> None:
    for version in (1, 2):
        release(company, "hr", version)
    rollback(company, "hr")
    release(company, "hr", 3)
    assert rollback(company, "hr").versions == (1,)


def test_a_release_that_was_deleted_since_is_not_rolled_back_to(company: Project) -> None:
    release(company, "hr", 1)
    release(company, "hr", 2)
    delete_expert(company, "hr@1")
    with pytest.raises(RegistryError, match=r"hr@1 was deleted .* quintet release hr VERSION"):
        rollback(company, "hr")
    assert released_expert(company, "hr").name == "hr@2"


def test_an_expert_whose_files_are_gone_is_not_released(company: Project) -> None:
    (company.runs / "hr" / "1" / "expert" / "tokenizer.json").unlink()
    with pytest.raises(MissingFilesError, match=r"tokenizer.json does not exist"):
        release(company, "hr", 1)
    assert live(company, "hr") is None


def test_a_run_that_was_killed_before_it_was_registered_can_be_released(project: Project) -> None:
    staged, expert = stage(new_run(project, "hr"))
    other = make_expert(project)
    (staged / "expert.json").write_text((other.folder / "expert.json").read_text().replace(": 2,", ": 1,", 1))
    staged.rename(expert.folder)
    assert release(project, "hr", 1).versions == (1,)


def test_a_share_leaves_the_rest_to_what_was_live(company: Project) -> None:
    release(company, "hr", 3)
    canary = release(company, "hr", 4, share=10)
    assert canary.split == ((3, 90), (4, 10))
    assert str(canary) == "hr: 90% @3, 10% @4"
    assert canary.main == 3


def test_a_share_can_be_raised_until_it_is_all(company: Project) -> None:
    release(company, "hr", 3)
    for share in (10, 50, 100):
        release(company, "hr", 4, share=share)
    assert splits(company) == [((4, 100),), ((3, 50), (4, 50)), ((3, 90), (4, 10)), ((3, 100),)]


def test_a_third_version_takes_its_share_of_all(company: Project) -> None:
    release(company, "hr", 1)
    release(company, "hr", 2, share=33)
    assert release(company, "hr", 3, share=10).split == ((1, 60), (2, 30), (3, 10))


@pytest.mark.parametrize("share", [0, -1, 101])
def test_a_share_is_a_percentage(company: Project, share: int) -> None:
    release(company, "hr", 1)
    with pytest.raises(RegistryError, match=f"from 1 to 100, found {share}"):
        release(company, "hr", 2, share=share)


@pytest.mark.parametrize("before", [None, 2])
def test_a_share_needs_something_that_answers_the_rest(company: Project, before: int | None) -> None:
    if before:
        release(company, "hr", before)
    with pytest.raises(RegistryError, match=r"nothing else is live .* quintet release hr 2"):
        release(company, "hr", 2, share=10)


def test_many_conversations_are_shared_out_as_the_release_says(company: Project) -> None:
    release(company, "hr", 1)
    release(company, "hr", 2, share=33)
    made = release(company, "hr", 3, share=10)
    picked = Counter(pick(made, key) for key in KEYS)
    for version, share in made.split:
        # Four standard deviations of a binomial share of that size.
        assert abs(picked[version] / len(KEYS) - share / 100) < 4 * (0.25 / len(KEYS)) ** 0.5


def test_a_conversation_stays_on_its_version_while_the_share_is_raised(company: Project) -> None:
    release(company, "hr", 3)
    few, more = (release(company, "hr", 4, share=share) for share in (10, 50))
    assert {key for key in KEYS if pick(few, key) == 4} < {key for key in KEYS if pick(more, key) == 4}


def test_a_key_picks_the_same_version_on_every_machine(company: Project) -> None:
    release(company, "hr", 1)
    made = release(company, "hr", 2, share=50)
    # The first byte of the SHA-256 of "a" is 0xca, that of "c" is 0x2e: in the upper and the lower half.
    assert (pick(made, "a"), pick(made, "c")) == (2, 1)
    assert pick(replace(made, split=((7, 100),)), "\ud800") == 7


def test_the_released_expert_is_found_in_about_a_millisecond(company: Project) -> None:
    release(company, "hr", 1)
    began = time.perf_counter()
    for _ in range(50):
        released_expert(company, "hr", "a question")
    assert (time.perf_counter() - began) / 50 < 0.02  # ten times what it takes, for a machine that is busy
