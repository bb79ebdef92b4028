"""How much a key may use, and how much it has used: counted so that many at once never use more. Knows no prices.

Periods are those of the clock, in UTC: a minute begins at :00, a day at midnight. All that share a registry share them.
"""

import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

from sqlalchemy import bindparam, select, update

from quintet.config import Project
from quintet.errors import BudgetError, ConfigError, RequestError
from quintet.registry.database import counting
from quintet.registry.tables import BudgetRow

Unit = Literal["requests", "tokens"]
Period = Literal["minute", "day"]
SECONDS: Mapping[Period, int] = {"minute": 60, "day": 86_400}
MOST = 10**15
_FACTORS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
_FORMAT = re.compile(r"(\d{1,16}(?:\.\d{1,9})?)\s*([kmg]?)\s*(tokens|requests|)\s*/\s*(minute|day)", re.IGNORECASE)


# Made once, and in SQL's own terms: each request waits for them.
_TABLE = BudgetRow.metadata.tables[BudgetRow.__tablename__]
_ROWS = _TABLE.c
_OF_KEY = _ROWS.key_id == bindparam("key")
_LOCK = (
    select(_ROWS.unit, _ROWS.period, _ROWS.allowed, _ROWS.used, _ROWS.started)
    .where(_OF_KEY, _ROWS.unit.in_(bindparam("units", expanding=True)))
    .order_by(_ROWS.unit, _ROWS.period)
    .with_for_update()
)
_ONE = (_OF_KEY, _ROWS.unit == bindparam("of"), _ROWS.period == bindparam("in"))
_SET = update(_TABLE).where(*_ONE).values(used=bindparam("now_used"), started=bindparam("since"))
_STILL = _ROWS.started == bindparam("since")
_TAKE_OFF = update(_TABLE).where(*_ONE, _STILL).values(used=_ROWS.used - bindparam("amount"))


@dataclass(frozen=True)
class Budget:
    """How many of a unit may be used in a period."""

    unit: Unit
    period: Period
    allowed: int

    def __str__(self) -> str:
        return f"{self.allowed:,} {self.unit}/{self.period}"


@dataclass(frozen=True)
class BudgetUsage:
    """What is used of a budget in the period that began at `started`, in Unix seconds."""

    budget: Budget
    used: int
    started: int

    @property
    def remaining(self) -> int:
        """How many may still be used."""
        return max(0, self.budget.allowed - self.used)

    def seconds_left(self, now: float) -> int:
        """Return how long the period lasts from now on, rounded up, and never less than a second."""
        return max(1, math.ceil(self.started + SECONDS[self.budget.period] - now))


def parse_budget(text: str) -> Budget:
    """Return the budget of a text such as `1M/day`, which is tokens, or `60 requests/minute`; raise ConfigError."""
    found = _FORMAT.fullmatch(text.strip())
    if found is None:
        raise ConfigError(
            f"budget: expected one such as 1M/day (tokens), '50k tokens/minute' or '60 requests/minute', found {text!r}"
        )
    allowed = float(found[1]) * _FACTORS[found[2].lower()]
    if not 1 <= allowed <= MOST or allowed != int(allowed):
        raise ConfigError(f"budget: expected a whole number from 1 to {MOST:,}, found {text!r}")
    unit = cast("Unit", found[3].lower() or "tokens")
    return Budget(unit, cast("Period", found[4].lower()), int(allowed))


def usage_now(now: float, unit: str, period: str, allowed: int, used: int, started: int) -> BudgetUsage:
    """Return what a row of `BudgetRow` says of the period that is now."""
    budget = Budget(cast("Unit", unit), cast("Period", period), allowed)
    begins = int(now) // SECONDS[budget.period] * SECONDS[budget.period]
    # Of machines that share a registry, one whose clock is behind must not open the old period again.
    return BudgetUsage(budget, used, started) if started >= begins else BudgetUsage(budget, 0, begins)


def spend(project: Project, key_id: str, amounts: Mapping[Unit, int], now: float | None = None) -> list[BudgetUsage]:
    """Count the amounts against all budgets that a key has for them, or, when one would be exceeded, against none.

    Returns where those budgets stand then; raises what `check_budgets` does.
    """
    with counting(project) as connection:
        rows = connection.execute(_LOCK, {"key": key_id, "units": list(amounts)}).all()
        moment = time.time() if now is None else now  # after the wait for the rows
        usages = [usage_now(moment, *row) for row in rows]
        check_budgets(usages, amounts, moment)
        spent = [replace(one, used=one.used + amounts[one.budget.unit]) for one in usages]
        if spent:
            connection.execute(_SET, [_values(key_id, one) | {"now_used": one.used} for one in spent])
    return spent


def refund(project: Project, key_id: str, amount: int, usages: Sequence[BudgetUsage]) -> None:
    """Take an amount off budgets that stood so when it was spent; of a period that is over, nothing is given back."""
    with counting(project) as connection:
        connection.execute(_TAKE_OFF, [_values(key_id, one) | {"amount": amount} for one in usages])


def check_budgets(usages: Sequence[BudgetUsage], amounts: Mapping[Unit, int], now: float) -> None:
    """Raise BudgetError when the amounts exceed what remains; it says when the last of those budgets starts anew.

    Raises RequestError when they exceed all that is allowed, so that no waiting helps.
    """
    exceeded = [usage for usage in usages if amounts.get(usage.budget.unit, 0) > usage.remaining]
    if not exceeded:
        return
    for budget in (usage.budget for usage in exceeded):
        if amounts[budget.unit] > budget.allowed:
            raise RequestError(
                f"this takes up to {amounts[budget.unit]:,} {budget.unit}, of prompt and answer, and this key may use "
                f"{budget}; lower max_tokens, or shorten the prompt",
                param="max_tokens",
                code="request_exceeds_budget",
            )
    worst = max(exceeded, key=lambda usage: usage.seconds_left(now))
    unit, seconds = worst.budget.unit, worst.seconds_left(now)
    raise BudgetError(
        f"this key may use {worst.budget}; {worst.used:,} are used or set aside, and this takes "
        f"{amounts[unit]:,} more; the next {worst.budget.period} (UTC) begins in {seconds} s",
        seconds,
    )


def _values(key_id: str, usage: BudgetUsage) -> dict[str, Any]:
    budget = usage.budget
    return {"key": key_id, "of": budget.unit, "in": budget.period, "since": usage.started}
