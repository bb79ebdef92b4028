"""Which experts are in memory, and who leaves for whom, by their bytes. Reads nothing, waits for nothing, asks nobody.

Whoever is wanted gets room in the order of asking. Those leave for it first that nobody uses, the least recently used
first; when there are none, the least recently used of the others take no new requests, finish those that they have,
and leave. Who was turned away asks again, behind those who wait. So nobody waits for ever, and nobody is cut short.
"""

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Moves:
    """What is to be done: who is wanted and in, who goes now, who is read next, and who is larger than all the room."""

    ready: list[str] = field(default_factory=list)
    leave: list[str] = field(default_factory=list)
    read: list[str] = field(default_factory=list)
    too_large: list[str] = field(default_factory=list)


class Residency:
    """Accounts for experts of known sizes, which never take more than `budget` bytes, those included that are read."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.evictions = 0
        self.sizes: dict[str, int] = {}
        # The least recently used first; with their numbers of virtual tokens.
        self._virtual: OrderedDict[str, int] = OrderedDict()
        self._reading: set[str] = set()
        self._leaving: set[str] = set()

    @property
    def loaded(self) -> set[str]:
        """Those in memory."""
        return set(self._virtual)

    @property
    def bytes(self) -> int:
        """How much is taken."""
        return sum(self.sizes[digest] for digest in (*self._virtual, *self._reading))

    def use(self, digest: str) -> int | None:
        """Note that an expert is asked; return its number of virtual tokens, or None where it takes no requests now."""
        if digest in self._leaving or digest not in self._virtual:
            return None
        self._virtual.move_to_end(digest)
        return self._virtual[digest]

    def fits(self, digest: str, size: int) -> bool:
        """Note how large one that was read really is; if it does not fit, it must be given room and be read again."""
        self.sizes[digest] = size
        if self.bytes > self.budget:
            self._reading.remove(digest)
            return False
        return True

    def arrive(self, digest: str, virtual: int) -> None:
        """Note that one that was read is in memory."""
        self._reading.remove(digest)
        self._virtual[digest] = virtual

    def give_up(self, digest: str) -> None:
        """Note that one will not come, and that its size may be another when it is next asked for."""
        self._reading.discard(digest)
        self.sizes.pop(digest, None)

    def plan(self, wanted: Collection[str], used: Collection[str | None]) -> Moves:
        """Return what to do for those who are wanted, in the order of asking, while those that are used must stay.

        Whoever cannot have room yet, or is of a size not known yet, holds up those behind.
        """
        # Who has just come is let in before others think that nobody uses it.
        come = [digest for digest in wanted if digest in self._virtual and digest not in self._leaving]
        moves, self._leaving = Moves(ready=come), set()
        free = self.budget - self.bytes
        room = _Room(free, free)
        for digest in wanted:
            if digest in self._reading or digest in self._leaving or digest in moves.ready:
                continue
            if digest in self._virtual:
                moves.ready.append(digest)
            elif self.sizes.get(digest, 0) > self.budget:
                moves.too_large.append(digest)
            elif not room.is_closed:
                self._give_room(digest, room, moves, used)
        return moves

    def _give_room(self, digest: str, room: "_Room", moves: Moves, used: Collection[str | None]) -> None:
        """Have an expert read, or leave those whose room it needs; it may pass others that have to wait longer.

        It takes only what those do not need: whoever waits for somebody to leave, never waits for more because of it.
        """
        size, must_wait = self.sizes.get(digest), False
        while size is not None and room.later < size and (other := self._next_to_leave(moves.ready, used)):
            room.later += self.sizes[other]
            if other in used:
                self._leaving.add(other)
                must_wait = True
            else:
                room.now += self.sizes[other]
                del self._virtual[other]
                self.evictions += 1
                moves.leave.append(other)
        if size is None or room.later < size:
            room.is_closed = True
            return
        room.later -= size
        if not must_wait and room.now >= size:
            room.now -= size
            self._reading.add(digest)
            moves.read.append(digest)

    def _next_to_leave(self, ready: Collection[str], used: Collection[str | None]) -> str | None:
        may_leave = [digest for digest in self._virtual if digest not in ready and digest not in self._leaving]
        return next((digest for digest in may_leave if digest not in used), next(iter(may_leave), None))


@dataclass
class _Room:
    """Bytes that are free now, and that will be, once all leave who are leaving and all before have their room."""

    now: int
    later: int
    is_closed: bool = False
