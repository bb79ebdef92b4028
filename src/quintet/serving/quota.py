"""Quotas: tokens and requests of a key, reserved before an answer and settled after it.

Before an answer begins, as many tokens are reserved as it may take; when it ends, however it ends, what it did not take
is refunded. So many requests at once never use more than the budget has.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from quintet.errors import QuintetError
from quintet.registry.budgets import BudgetUsage, Unit, check_budgets, refund, spend
from quintet.registry.keys import Key
from quintet.serving.background import BackgroundTasks
from quintet.serving.live_project import LiveProject

logger = logging.getLogger("quintet.server")

Result = TypeVar("Result")
WRITERS = 4
CLOSING_SECONDS = 5
HEADERS = tuple(
    f"x-ratelimit-{what}-{unit}" for unit in ("requests", "tokens") for what in ("limit", "remaining", "reset")
)


class QuotaStore:
    """Writes to the registry's budgets, on threads of its own: a database that is locked holds up nothing else."""

    def __init__(self, current: LiveProject) -> None:
        self._current = current
        self._threads = ThreadPoolExecutor(WRITERS, thread_name_prefix="ledger")
        self._writing = BackgroundTasks()
        self.open_reservations = 0

    def begin(self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """Begin what is to be finished even when nobody waits for it any more."""
        return self._writing.begin(work)

    async def spend(self, key_id: str, unit: Unit, amount: int) -> list[BudgetUsage]:
        """Count an amount; return where the budgets for it stand. Raises what `check_budgets` does."""
        return await self._write(lambda: spend(self._current.project, key_id, {unit: amount}))

    async def refund(self, key_id: str, amount: int, usages: Sequence[BudgetUsage]) -> None:
        """Take back what was counted and not used; when that fails it stays counted, and the log says so."""
        try:
            await self._write(lambda: refund(self._current.project, key_id, amount, usages))
        except QuintetError as error:
            logger.warning("key %s keeps %d tokens that it did not use: %s", key_id, amount, error)

    async def _write(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def close(self) -> None:
        """Finish what is under way, once the answers that are cut short have noticed; wait some seconds at most."""
        until = time.monotonic() + CLOSING_SECONDS
        while (self.open_reservations or self._writing) and time.monotonic() < until:
            await asyncio.sleep(0.01)
        self._threads.shutdown()


@dataclass
class Reservation:
    """Tokens that are reserved for an answer; `used` says how many it took, once it has ended. None gives all back."""

    used: int | None = None


class Account:
    """The budgets of one key, as this request knows them."""

    def __init__(self, quota_store: QuotaStore, key: Key) -> None:
        self._quota_store = quota_store
        self.key = key
        self.key_id = key.id
        self._usages = {one.budget: one for one in key.budgets}

    @property
    def usages(self) -> list[BudgetUsage]:
        """Where each budget stands."""
        return list(self._usages.values())

    @property
    def limits_tokens(self) -> bool:
        """Whether tokens are counted."""
        return bool(self._of("tokens"))

    async def count_request(self) -> None:
        """Count one request; raise BudgetError when there is none left, or no token."""
        check_budgets(self.usages, {"requests": 1, "tokens": 1}, time.time())
        if self._of("requests"):
            counting = self._quota_store.begin(self._quota_store.spend(self.key_id, "requests", 1))
            self._note(await asyncio.shield(counting))

    @asynccontextmanager
    async def reserve(self, tokens: int) -> AsyncGenerator[Reservation]:
        """Reserve tokens for an answer, and refund at its end what it did not use.

        Raises BudgetError, or RequestError for more than the key may ever use at once.
        """
        reservation = Reservation()
        self._quota_store.open_reservations += 1
        reserving = self._quota_store.begin(self._quota_store.spend(self.key_id, "tokens", tokens))
        try:
            self._note(await asyncio.shield(reserving))
            yield reservation
        finally:
            settling = self._quota_store.begin(self._settle(reserving, tokens, reservation))
            self._quota_store.open_reservations -= 1
            await asyncio.shield(settling)  # a client that leaves cancels this wait, and not the work

    async def _settle(self, reserving: asyncio.Task[list[BudgetUsage]], tokens: int, reservation: Reservation) -> None:
        try:
            usages = await reserving
        except QuintetError:
            return
        # Negative where a provider counts more than was estimated.
        unused = tokens - (reservation.used or 0)
        if unused:
            await self._quota_store.refund(self.key_id, unused, usages)
            self._note([BudgetUsage(one.budget, max(0, one.used - unused), one.started) for one in self._of("tokens")])

    def headers(self) -> list[tuple[str, str]]:
        """Return OpenAI's rate limit headers: for each unit, those of the budget with the least left."""
        now = time.time()
        return [header for unit in ("requests", "tokens") for header in _headers(unit, self._of(unit), now)]

    def _of(self, unit: str) -> list[BudgetUsage]:
        return [one for one in self._usages.values() if one.budget.unit == unit]

    def _note(self, usages: Sequence[BudgetUsage]) -> None:
        self._usages.update({one.budget: one for one in usages})


@asynccontextmanager
async def reserve(account: Account | None, tokens: int) -> AsyncGenerator[Reservation]:
    """Reserve tokens for an answer on an account, if there is one: `Account.reserve`."""
    if account is None:
        yield Reservation()
    else:
        async with account.reserve(tokens) as reservation:
            yield reservation


def _headers(unit: str, usages: Sequence[BudgetUsage], now: float) -> list[tuple[str, str]]:
    if not usages:
        return []
    least = min(usages, key=lambda one: (one.remaining, -one.seconds_left(now)))
    return [
        (f"x-ratelimit-limit-{unit}", str(least.budget.allowed)),
        (f"x-ratelimit-remaining-{unit}", str(least.remaining)),
        (f"x-ratelimit-reset-{unit}", f"{least.seconds_left(now)}s"),
    ]
