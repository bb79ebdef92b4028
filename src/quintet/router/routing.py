"""What is done with what the router says: a question goes to a department, to the base, or to nobody. Asks nobody."""

from collections.abc import Sequence
from dataclasses import dataclass

from quintet.config import BASE, Project
from quintet.router.router import Candidate, Router

TURNS = 4
"""How many turns of a conversation are read, the newest first."""
CHOICES = 5


@dataclass(frozen=True)
class RoutingChoice:
    """A department to choose from, what it is for, and how likely it is; None where the router does not know it."""

    department: str
    description: str
    probability: float | None


@dataclass(frozen=True)
class Routing:
    """Where a question goes: `model` is None where it goes to nobody, and `said` is then what is answered.

    `department` is the one that it is surely for; `ranked` are the candidates, the likeliest first.
    """

    model: str | None
    department: str | None
    ranked: tuple[Candidate, ...]
    choices: tuple[RoutingChoice, ...] = ()
    said: str = ""

    @property
    def runner_up(self) -> Candidate | None:
        """The next likeliest department."""
        return self.ranked[1] if len(self.ranked) > 1 else None


def route(router: Router, seen: Project, turns: Sequence[str]) -> Routing:
    """Return where a question goes, of the departments of the project as its asker sees it.

    `turns` are what the user said, the newest first: one that says nothing by itself, such as "And on Sundays?", is
    taken for a question of the department that the conversation was with.
    """
    rankings = [tuple(router.rank(turn, seen.config.departments)) for turn in turns[:TURNS]] or [()]
    for ranked in rankings:
        if ranked and router.is_sure(ranked[0]):
            return Routing(ranked[0].department, ranked[0].department, ranked)
    return _to_nobody(seen, rankings[0])


def _to_nobody(seen: Project, ranked: tuple[Candidate, ...]) -> Routing:
    below = seen.config.router.below
    if below == "base" and BASE in seen.models:
        return Routing(BASE, None, ranked)
    choices = _choices(seen, ranked) if below != "decline" else ()
    return Routing(None, None, ranked, choices, _said(choices))


def _choices(seen: Project, ranked: Sequence[Candidate]) -> tuple[RoutingChoice, ...]:
    likely: dict[str, float | None] = {one.department: one.probability for one in ranked}
    names = [*likely, *(name for name in seen.config.departments if name not in likely)]
    departments = seen.config.departments
    return tuple(RoutingChoice(name, departments[name].description, likely.get(name)) for name in names[:CHOICES])


def _said(choices: Sequence[RoutingChoice]) -> str:
    if not choices:
        return "This seems to be a question for none of the departments that can be asked here."
    lines = "".join(f"\n- {choice.department}: {choice.description}" for choice in choices)
    return f"It is not clear which department this question is for. Please choose one and ask it:{lines}"
