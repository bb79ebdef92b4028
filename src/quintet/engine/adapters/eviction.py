"""LRU eviction: which adapters are in memory, and which are evicted for others, by their bytes. Accounts only.

Wanted adapters get room in the order of asking. Adapters in no use are evicted for them, the least recently used first.
When there are none, the least recently used of the others take no new requests, finish those that they have, and are
evicted then; what was turned away asks again, at the end of the line. So no request waits for ever or is cut short.
"""

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass, field


@dataclass(frozen=True)
class EvictionPlan:
    """Digests of adapters: wanted and in memory, to evict now, to load next, and larger than the whole budget."""

    loaded: list[str] = field(default_factory=list)
    evict: list[str] = field(default_factory=list)
    load: list[str] = field(default_factory=list)
    rejected: list[str] = field(default_factory=list)


class AdapterCache:
    """Accounts for adapters of known sizes, which never take more than `budget` bytes, those being read included."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.evictions = 0
        self.sizes: dict[str, int] = {}
        # The least recently used first; with their numbers of virtual tokens.
        self._num_virtual_tokens: OrderedDict[str, int] = OrderedDict()
        self._reading: set[str] = set()
        self._leaving: set[str] = set()

    @property
    def loaded(self) -> set[str]:
        """Digests of the adapters in memory."""
        return set(self._num_virtual_tokens)

    @property
    def bytes(self) -> int:
        """Bytes taken, by adapters in memory and by those being read."""
        return sum(self.sizes[digest] for digest in (*self._num_virtual_tokens, *self._reading))

    def use(self, digest: str) -> int | None:
        """Mark an adapter as used; return its number of virtual tokens, or None where it takes no requests now."""
        if digest in self._leaving or digest not in self._num_virtual_tokens:
            return None
        self._num_virtual_tokens.move_to_end(digest)
        return self._num_virtual_tokens[digest]

    def fits(self, digest: str, size: int) -> bool:
        """Note the real size of an adapter that was read; one that does not fit must be given room and read again."""
        self.sizes[digest] = size
        if self.bytes > self.budget:
            self._reading.remove(digest)
            return False
        return True

    def arrive(self, digest: str, num_virtual_tokens: int) -> None:
        """Note that an adapter that was read is in memory."""
        self._reading.remove(digest)
        self._num_virtual_tokens[digest] = num_virtual_tokens

    def give_up(self, digest: str) -> None:
        """Note that an adapter cannot be loaded; its size may be another when it is next wanted."""
        self._reading.discard(digest)
        self.sizes.pop(digest, None)

    def plan(self, wanted: Collection[str], used: Collection[str | None]) -> EvictionPlan:
        """Return what to do for the wanted adapters, in the order of asking; those in use must stay.

        An adapter that cannot have room yet, or whose size is not known yet, holds up those behind it.
        """
        # An adapter that has just arrived is used before it can be evicted as unused.
        come = [digest for digest in wanted if digest in self._num_virtual_tokens and digest not in self._leaving]
        eviction, self._leaving = EvictionPlan(loaded=come), set()
        free = self.budget - self.bytes
        room = _Room(free, free)
        for digest in wanted:
            if digest in self._reading or digest in self._leaving or digest in eviction.loaded:
                continue
            if digest in self._num_virtual_tokens:
                eviction.loaded.append(digest)
            elif self.sizes.get(digest, 0) > self.budget:
                eviction.rejected.append(digest)
            elif not room.is_closed:
                self._give_room(digest, room, eviction, used)
        return eviction

    def _give_room(self, digest: str, room: "_Room", eviction: EvictionPlan, used: Collection[str | None]) -> None:
        """Plan to read an adapter, or to evict those whose room it needs.

        It may pass others that have to wait longer, and takes only room that those do not need: an adapter that waits
        for evictions never waits for more of them because of this.
        """
        size, must_wait = self.sizes.get(digest), False
        while size is not None and room.later < size and (other := self._next_to_leave(eviction.loaded, used)):
            room.later += self.sizes[other]
            if other in used:
                self._leaving.add(other)
                must_wait = True
            else:
                room.now += self.sizes[other]
                del self._num_virtual_tokens[other]
                self.evictions += 1
                eviction.evict.append(other)
        if size is None or room.later < size:
            room.is_closed = True
            return
        room.later -= size
        if not must_wait and room.now >= size:
            room.now -= size
            self._reading.add(digest)
            eviction.load.append(digest)

    def _next_to_leave(self, ready: Collection[str], used: Collection[str | None]) -> str | None:
        may_leave = [
            digest for digest in self._num_virtual_tokens if digest not in ready and digest not in self._leaving
        ]
        return next((digest for digest in may_leave if digest not in used), next(iter(may_leave), None))


@dataclass
class _Room:
    """Bytes that are free now, and that will be free after all planned evictions and loads."""

    now: int
    later: int
    is_closed: bool = False
