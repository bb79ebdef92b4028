"""Scheduler: what the next step computes, which sequences begin, go on or wait. Computes nothing.

While several departments run, those that lengthen steps the most skip some of them (`fair_share`), and keep what they
hold. Of those that take part, running sequences that are one token from the next choice always go first. What is left
of a step's tokens goes to prompts, in chunks, split evenly between departments; of each department, the prompt with the
least left goes first: side by side, all would have their first token as late as the last. None starves, since those
that passed it keep their places among what runs, until there are no more. A department's share of the engine is the
larger of its shares of running sequences and of cache blocks (dominant resource fairness, Ghodsi et al., 2011). Where
one department has more than an even share and another cannot begin, the first one's youngest sequence is preempted: it
waits, and is computed again later, mostly from the cache.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count

from quintet.engine.interface import FinishReason
from quintet.engine.scheduling.block_manager import BlockManager
from quintet.engine.scheduling.fair_share import VirtualClocks
from quintet.engine.scheduling.request_queue import RequestQueue
from quintet.engine.scheduling.retry_after import RetryAfterEstimator
from quintet.engine.scheduling.sequence import Sequence, Status
from quintet.engine.types import Chunk
from quintet.errors import BusyError

MAX_SKIPS = 32
"""How often others may begin before a sequence whose turn it is but for which the cache has too few blocks."""


@dataclass(frozen=True)
class ScheduledChunk:
    """A chunk, and whose it is."""

    sequence: Sequence
    chunk: Chunk


@dataclass(frozen=True)
class ScheduledStep:
    """What to compute now, and who was too late to be computed any more."""

    work: tuple[ScheduledChunk, ...]
    timed_out: tuple[Sequence, ...]


class Scheduler:
    """Decides step by step; `plan` and `complete` take turns, all else may come between any two calls.

    At most `max_queue` sequences wait that have not begun, be it outside, for their expert, or for their turn; beyond
    that, only those of departments that have no more than an even share of so many places. At most
    `max_running` hold blocks, and a step computes at most `step_tokens` tokens, which must be more than `max_running`:
    so each of them gets on in every step that its department takes part in.
    """

    def __init__(
        self, cache: BlockManager, *, max_queue: int = 64, max_running: int = 32, step_tokens: int = 512
    ) -> None:
        if step_tokens <= max_running:
            raise ValueError(f"a step of {step_tokens} tokens is too short for {max_running} running sequences")
        self.cache = cache
        self.running: list[Sequence] = []
        self.waiting_for_adapter: list[Sequence] = []
        self.preemptions = 0
        self.reused_tokens = 0
        self._queue = RequestQueue()
        self._fair_share = VirtualClocks(step_tokens)
        self.retry_after = RetryAfterEstimator()
        self._arrivals = count()
        self._max_queue = max_queue
        self._max_running = max_running
        self._step_tokens = step_tokens

    @property
    def waiting(self) -> int:
        """How many sequences have not begun."""
        return self._queue.fresh + len(self.waiting_for_adapter)

    @property
    def begun(self) -> int:
        """How many sequences run, or had to make room and will go on."""
        return len(self.running) + len(self._queue) - self._queue.fresh

    @property
    def inside(self) -> int:
        """How many sequences can be computed, now or when it is their turn."""
        return len(self.running) + len(self._queue)

    @property
    def used(self) -> set[str | None]:
        """The experts of all that are not outside."""
        return {sequence.expert for sequence in (*self.running, *self._queue)}

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence that fits into the cache; raise BusyError when too many wait."""
        self._arrive(sequence)
        self._queue.append(sequence)

    def add_waiting_for_adapter(self, sequence: Sequence) -> None:
        """Have a sequence wait until it is let in; raise BusyError when too many wait."""
        self._arrive(sequence)
        sequence.status = Status.WAITING_FOR_ADAPTER
        self.waiting_for_adapter.append(sequence)

    def admit_loaded(self, sequence: Sequence) -> None:
        """Queue a sequence from outside, which fits into the cache now."""
        self.waiting_for_adapter.remove(sequence)
        sequence.status = Status.WAITING
        self._queue.append(sequence)

    def _arrive(self, sequence: Sequence) -> None:
        if self.waiting <= self._max_queue // 2:
            self.retry_after.forget_promises()
        if self.waiting >= self._max_queue:
            waiting = Counter(
                other.department for other in (*self._queue, *self.waiting_for_adapter) if not other.began
            )
            share = self._max_queue / len({*waiting, sequence.department})
            if waiting[sequence.department] + 1 > share:
                error = BusyError(f"{self.waiting} requests wait, the most allowed; try again in a moment")
                error.retry_after = self.retry_after.promise()
                raise error
        sequence.arrival = next(self._arrivals)

    def remove(self, sequence: Sequence) -> None:
        """Drop a sequence, wherever it is, and free what it holds; once it is gone, do nothing."""
        if sequence.status is Status.RUNNING:
            self._stop(sequence, Status.FINISHED)
        elif sequence.status is Status.WAITING:
            self._queue.remove(sequence)
        elif sequence.status is Status.WAITING_FOR_ADAPTER:
            self.waiting_for_adapter.remove(sequence)
        sequence.status = Status.FINISHED

    def drop_waiting(self) -> list[Sequence]:
        """Drop and return all that have not begun."""
        dropped = [sequence for sequence in self.all() if not sequence.began]
        for sequence in dropped:
            self.remove(sequence)
        return dropped

    def all(self) -> list[Sequence]:
        """Return every sequence that waits or runs."""
        return [*self.running, *self._queue, *self.waiting_for_adapter]

    def next_timeout(self, now: float) -> float | None:
        """Return how long it is until somebody outside is too late, if anybody ever is."""
        return min(
            (each.deadline - now for each in self.waiting_for_adapter if each.deadline is not None), default=None
        )

    def plan(self, now: float = 0.0) -> ScheduledStep:
        """Return the next step; `now` is what deadlines are compared with."""
        timed_out = [sequence for sequence in self.all() if sequence.deadline is not None and sequence.deadline <= now]
        for sequence in timed_out:
            self.remove(sequence)
        self._grow()
        self._admit()
        return ScheduledStep(tuple(self._work()), tuple(timed_out))

    def complete(
        self, step: ScheduledStep, chosen: Mapping[Sequence, int], seconds: float = 0.0
    ) -> dict[Sequence, FinishReason | None]:
        """Note that a step was computed in so many seconds, and which ids were chosen.

        Returns why each of those is the last, if it is. Whoever was removed meanwhile is skipped over; whoever has its
        last id is finished.
        """
        tokens: Counter[str] = Counter()
        for work in step.work:
            tokens[work.sequence.department] += len(work.chunk.ids)
        self._fair_share.took(tokens, seconds)
        reasons: dict[Sequence, FinishReason | None] = {}
        for sequence, chunk in ((work.sequence, work.chunk) for work in step.work):
            if sequence.status is not Status.RUNNING:
                continue
            sequence.num_computed_tokens += len(chunk.ids)
            self.cache.commit(sequence)
            if sequence in chosen:
                self._queue.charge(sequence.department, 1)
                reasons[sequence] = sequence.accept(chosen[sequence])
                if reasons[sequence]:
                    self._stop(sequence, Status.FINISHED)
        return reasons

    def _stop(self, sequence: Sequence, status: Status) -> None:
        self.cache.release(sequence)
        self.running.remove(sequence)
        sequence.status = status

    def _preempt(self, sequence: Sequence) -> None:
        self._stop(sequence, Status.WAITING)
        self._queue.put_back(sequence)
        self.preemptions += 1

    def _grow(self) -> None:
        """Get each running sequence the block for its last id, the oldest first; for lack of blocks some must wait.

        The oldest of all never has to: whatever the mixture, it ends.
        """
        for sequence in sorted(self.running, key=_arrival):
            while sequence.status is Status.RUNNING and not self.cache.grow(sequence):
                self._preempt(self._greedy_youngest() or max(self.running, key=_arrival))

    def _admit(self) -> None:
        """Begin what is due and fits. Past one that does not fit, only a department of which nothing runs may begin."""
        skipped: set[str] = set()
        blocked: Sequence | None = None
        while (head := self._queue.next(skipped)) is not None:
            may_pass = blocked is None or not self._runs(head.department)
            if may_pass and self._make_room(head, skipped):
                self.cache.admit(head)
                self._queue.begin(head)
                if not head.began:
                    self.reused_tokens += head.num_computed_tokens
                    self.retry_after.note_free()
                head.began, head.status = True, Status.RUNNING
                self.running.append(head)
                if blocked is not None:
                    blocked.num_skips += 1
                continue
            skipped.add(head.department)
            if blocked is None and len(self.running) < self._max_running:
                blocked = head
            if blocked is not None and blocked.num_skips >= MAX_SKIPS:
                return

    def _make_room(self, head: Sequence, skipped: set[str]) -> bool:
        """Return whether a sequence can begin, if need be after others of greedier departments have made room.

        Those departments are skipped over for the rest of the step: the room was not made for them.
        """
        while not self._fits(head):
            greedy = self._greedy_youngest() if self._is_due(head) else None
            if greedy is None:
                return False
            self._preempt(greedy)
            skipped.add(greedy.department)
        return True

    def _fits(self, head: Sequence) -> bool:
        # A block for each that runs: whoever begins should not have to make room at once.
        reserve = len(self.running)
        return len(self.running) < self._max_running and self.cache.missing(head) + reserve <= self.cache.free

    def _is_due(self, head: Sequence) -> bool:
        """Return whether its department has less than an even share, and no more with it."""
        if not self._runs(head.department):
            return True
        places = self._runs(head.department) + 1
        blocks = self._holds(head.department) + self.cache.count(head)
        return self._share(places, blocks) <= self._even_share()

    def _greedy_youngest(self) -> Sequence | None:
        """Return the youngest sequence of the department furthest above an even share, if it has others that run."""
        even = self._even_share()
        running = Counter(sequence.department for sequence in self.running)
        shares = {name: self._share(number, self._holds(name)) for name, number in running.items() if number > 1}
        greedy = max(shares, key=shares.__getitem__, default=None)
        if greedy is None or shares[greedy] <= even:
            return None
        return max((sequence for sequence in self.running if sequence.department == greedy), key=_arrival)

    def _even_share(self) -> float:
        return 1 / len({sequence.department for sequence in self.running} | self._queue.departments)

    def _share(self, places: int, blocks: int) -> float:
        return max(places / self._max_running, blocks / self.cache.blocks)

    def _runs(self, department: str) -> int:
        return sum(sequence.department == department for sequence in self.running)

    def _holds(self, department: str) -> int:
        return sum(len(sequence.blocks) for sequence in self.running if sequence.department == department)

    def _work(self) -> Iterator[ScheduledChunk]:
        """Yield what the step computes, of those departments whose turn it is; the others keep what they hold."""
        wanted: dict[str, int] = Counter()
        for sequence in self.running:
            wanted[sequence.department] += sequence.remaining
        if not wanted:
            return
        turn = self._fair_share.next({name: min(tokens, self._step_tokens) for name, tokens in wanted.items()})
        taking_part = [sequence for sequence in self.running if sequence.department in turn]
        ready = [sequence for sequence in taking_part if sequence.remaining == 1]
        for sequence in ready:
            yield _work(sequence, 1)
        yield from _prompts([each for each in taking_part if each.remaining > 1], self._step_tokens - len(ready))


def _prompts(sequences: Iterable[Sequence], tokens: int) -> Iterator[ScheduledChunk]:
    """Yield chunks of prompts, so many tokens in all: split evenly between departments, the shortest of each first."""
    prompts: dict[str, list[Sequence]] = {}
    for sequence in sequences:
        prompts.setdefault(sequence.department, []).append(sequence)
    wanted = [sum(sequence.remaining for sequence in of_one) for of_one in prompts.values()]
    for of_one, share in zip(prompts.values(), split(tokens, wanted), strict=True):
        for sequence in sorted(of_one, key=_shortest):
            if number := min(share, sequence.remaining):
                yield _work(sequence, number)
                share -= number


def split(amount: int, wanted: list[int]) -> list[int]:
    """Split an amount evenly, nobody getting more than wanted, and those who want least being served first."""
    shares = [0] * len(wanted)
    for done, place in enumerate(sorted(range(len(wanted)), key=wanted.__getitem__)):
        shares[place] = min(wanted[place], -(-amount // (len(wanted) - done)))
        amount -= shares[place]
    return shares


def _work(sequence: Sequence, tokens: int) -> ScheduledChunk:
    start = sequence.num_computed_tokens
    ids = tuple(sequence.ids[start : start + tokens])
    is_last = tokens == sequence.remaining
    return ScheduledChunk(
        sequence, Chunk(sequence.expert, ids, start, sequence.num_virtual_tokens, tuple(sequence.blocks), is_last)
    )


def _arrival(sequence: Sequence) -> int:
    return sequence.arrival


def _shortest(sequence: Sequence) -> tuple[int, int]:
    return sequence.remaining, sequence.arrival
