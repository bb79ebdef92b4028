"""Processes that use one registry at once, or are killed at it: `python -m tests.registry.processes JSON`.

They are forked from this one, which has loaded the registry and nothing heavier, so that each takes milliseconds.
"""

import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import chain
from pathlib import Path
from types import FrameType
from typing import Any

from quintet.config import Project
from quintet.errors import RegistryError
from quintet.registry.audit import read_acts
from quintet.registry.deletion import delete_expert
from quintet.registry.experts import list_experts, new_run, publish
from quintet.registry.releases import history, live, release, rollback
from quintet.registry.verification import verify
from tests.registry.making import make_project, stage


def at_once(tasks: list[Callable[[], Any]]) -> list[Any]:
    """Return what each task returned, each in a process of its own, all let go at one moment."""
    gate, let_go = os.pipe()
    children = []
    for task in tasks:
        reads, writes = os.pipe()
        if (child := os.fork()) == 0:
            os.close(let_go)
            os.read(gate, 1)
            os.write(writes, json.dumps(task()).encode())
            os._exit(0)
        os.close(writes)
        children.append((child, reads))
    os.close(let_go)
    answers = []
    for child, reads in children:
        with os.fdopen(reads) as answer:
            answers.append(json.loads(answer.read()))
        os.waitpid(child, 0)
    return answers


def start(project: Project) -> list[int]:
    """Use a registry that does not exist yet, from eight processes at once."""
    return at_once([lambda: len(list_experts(project, "hr"))] * 8)


def number(*projects: Project) -> list[int]:
    """Have two processes for each project folder make and publish experts at once, and return all versions."""

    def publish_five(project: Project) -> list[int]:
        return [publish(*stage(new_run(project, "hr")), project).version for _ in range(5)]

    return [*chain.from_iterable(at_once([partial(publish_five, project) for project in projects * 2]))]


def adopt(project: Project) -> list[int]:
    """Have four processes find the same folders without rows at once."""
    return at_once([lambda: len(list_experts(project, "hr"))] * 4)


def kill(project: Project, kills: int, seed: int) -> dict[str, int]:
    """Kill a process that publishes, releases, rolls back and deletes, again and again; return what was survived.

    Raises AssertionError when something is half done, or something is gone that was said to be done.
    """
    chance = random.Random(seed)
    for _ in range(kills):
        reads, writes = os.pipe()
        if (child := os.fork()) == 0:
            work(project, writes, random.Random(chance.random()))
        os.close(writes)
        with os.fdopen(reads) as said:
            lines = [said.readline() for _ in range(chance.randint(1, 3))]  # it is ready, and has done a thing or two
            time.sleep(chance.uniform(0.0, 0.04))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            check(project, [(act, number) for act, number in map(str.split, [*lines, *said])])
    acts = Counter(act.act for act in read_acts(project, "hr"))
    staged = len(list((project.runs / "hr").glob("*/expert.part")))
    return {"kills": kills, "staged and never published": staged, **acts}


def work(project: Project, pipe: int, chance: random.Random) -> None:
    """Do all that changes a registry, in any order, and say each thing that is done, until killed."""
    list_experts(project, "hr")
    os.write(pipe, b"ready 0\n")
    while True:
        versions = [expert.version for expert in list_experts(project, "hr")]
        act = chance.choice(["publish", "release", "rollback", "delete"]) if len(versions) > 3 else "publish"
        with suppress(RegistryError):  # nothing is live beside a share, nothing was before, or it is released
            match act:
                case "publish":
                    done = publish(*stage(new_run(project, "hr")), project).version
                case "release":
                    done = release(project, "hr", chance.choice(versions), share=chance.choice([100, 10])).number
                case "rollback" if live_versions(project):
                    done = rollback(project, "hr").number
                case "delete":
                    done = versions[0]
                    delete_expert(project, f"hr@{done}")
                case _:
                    continue
            os.write(pipe, f"{act} {done}\n".encode())


def sweep(project: Project, step: int) -> dict[str, int]:
    """Kill a process before every `step`th line that each act runs through, and return how many kills that were."""
    for _ in range(3):
        publish(*stage(new_run(project, "hr")), project)
    kills = {}
    for act in ("publish", "release", "rollback", "delete"):
        line = 1
        while killed_before(project, act, line):
            check(project, [])
            line += step
        check(project, [])
        kills[act] = (line - 1) // step
    return kills


def killed_before(project: Project, act: str, line: int) -> bool:
    """Begin an act in a process that dies before that line of it; return whether it had so many."""
    if (child := os.fork()) == 0:
        task = prepare(project, act)
        sys.settrace(Countdown(line))
        task()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def prepare(project: Project, act: str) -> Callable[[], Any]:
    """Return an act that changes something, and do what it needs before."""
    versions = [expert.version for expert in list_experts(project, "hr")]
    idle = [version for version in versions if version not in live_versions(project)]
    match act:
        case "publish":
            return partial(publish, *stage(new_run(project, "hr")), project)
        case "release":
            return partial(release, project, "hr", idle[-1])
        case "rollback":
            release(project, "hr", idle[-1])
            return partial(rollback, project, "hr")
        case _:
            return partial(delete_expert, project, f"hr@{idle[0]}")


class Countdown:
    """Kills its process before the so manieth line of the registry, or of what moves and removes its folders."""

    def __init__(self, line: int) -> None:
        self.left = line

    def __call__(self, frame: FrameType, event: str, _: Any) -> "Countdown | None":
        name = frame.f_code.co_filename
        if not (name.endswith("shutil.py") or "/quintet/registry/" in name):
            return None
        if event == "line":
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return self


def live_versions(project: Project) -> tuple[int, ...]:
    released = live(project, "hr")
    return released.versions if released else ()


def check(project: Project, said: list[tuple[str, str]]) -> None:
    experts = list_experts(project, "hr")
    versions = [expert.version for expert in experts]
    assert sorted(set(versions)) == versions
    for expert in experts:
        expert.check_files()
        assert expert.is_whole
    assert set(live_versions(project)) <= set(versions)
    finish_deletions(project)

    done = {what: {int(number) for act, number in said if act == what} for what in ("publish", "delete")}
    released = [int(number) for act, number in said if act in ("release", "rollback")]
    acts = read_acts(project, "hr")
    gone = {act.version for act in acts if act.act == "delete"}
    assert done["publish"] <= set(versions) | gone
    assert done["delete"] <= gone
    assert not gone & set(versions)
    made = Counter(act.version for act in acts if act.act in ("publish", "adopt"))
    assert set(made) == set(versions) | gone
    assert set(made.values()) <= {1}
    releases = history(project, "hr")
    assert len(releases) == sum(act.act in ("release", "rollback") for act in acts)
    if released:
        # What was said to be live is, or at most the one act that followed and had no time to say so.
        assert releases[0].number in (max(released), max(released) + 1)


def finish_deletions(project: Project) -> None:
    """Delete to the end what was half deleted, which is all that may be wrong with the files."""
    for damage in verify(project, "hr"):
        assert "was deleted" in damage.found
        delete_expert(project, damage.expert)
        assert not Path(damage.path).exists()


def main(what: str, database: str, roots: list[str], more: dict[str, int]) -> Any:
    """Return what came of it, over one database and a project folder for each root."""
    projects = [make_project(Path(root), database=database) for root in roots]
    assert not {"torch", "transformers"} & sys.modules.keys()
    tasks: dict[str, Callable[..., Any]] = {
        "start": start,
        "number": number,
        "adopt": adopt,
        "kill": kill,
        "sweep": sweep,
    }
    return tasks[what](*projects, **more)


if __name__ == "__main__":
    print(json.dumps(main(*json.loads(sys.argv[1]))))
