"""Slot allocator: which rows of the stacked LoRA weights belong to which adapter. Accounts only, no tensors."""

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Mapping

MAX_SPAN_RATIO = 2
"""How many times the rows that a step needs may lie between the first and the last of them."""


class SlotAllocator:
    """A line of `capacity` rows, of which each expert that entered has a range.

    What a step computes is the window from the first row to the last of its experts. Those that no step asks for keep
    their ranges until the room is wanted, so that experts which come and go as sequences do are not written anew.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.ranges: dict[str, range] = {}

    def gather(self, widths: Mapping[str, int]) -> list[str]:
        """Give each of these experts a range of its width; return those whose range is new and must be written.

        Where they lie too far apart, the last moves closer: one a step, so that no step takes long. Raises ValueError
        when they are wider than the capacity.
        """
        before = dict(self.ranges)
        entering = [digest for digest in widths if digest not in before]
        if not all(self._place(digest, widths) for digest in entering):
            if sum(widths.values()) > self.capacity:
                raise ValueError(f"experts of {sum(widths.values())} ranks do not fit into {self.capacity} rows")
            start = 0
            for digest in sorted(widths, key=lambda digest: self.ranges[digest].start if digest in self.ranges else -1):
                self._take(digest, range(start, start + widths[digest]))
                start += widths[digest]
        elif not entering and len(self.span(widths)) > MAX_SPAN_RATIO * sum(widths.values()):
            self._place(max(widths, key=lambda digest: before[digest].start), widths)
        return [digest for digest in widths if self.ranges[digest] != before.get(digest)]

    def span(self, digests: Collection[str]) -> range:
        """Return the rows from the first to the last of experts that have entered."""
        ranges = [self.ranges[digest] for digest in digests]
        return _span(ranges) if ranges else range(0)

    def forget(self, digest: str) -> None:
        """Free an expert's rows."""
        self.ranges.pop(digest, None)

    def _place(self, digest: str, widths: Mapping[str, int]) -> bool:
        """Put an expert where the window is not too wide and the fewest lose their rows; False where there is no room.

        Of these others keep theirs.
        """
        width, own = widths[digest], self.ranges.get(digest)
        held = _Line(self.ranges[other] for other in widths if other != digest and other in self.ranges)
        idle = _Line(rows for other, rows in self.ranges.items() if other not in widths)
        starts = {0, *(rows.stop for rows in self.ranges.values()), *([own.start] if own else [])}
        places = [range(start, start + width) for start in starts if start + width <= self.capacity]
        places = [place for place in places if not held.meeting(place)]
        wide = MAX_SPAN_RATIO * (width + held.rows)

        def cost(place: range) -> tuple[int, int, int]:
            return max(0, held.span(place) - wide), idle.meeting(place), place.start

        if places:
            self._take(digest, min(places, key=cost))
        return bool(places)

    def _take(self, digest: str, rows: range) -> None:
        others = {
            other: each
            for other, each in self.ranges.items()
            if other != digest and not (rows.start < each.stop and each.start < rows.stop)
        }
        self.ranges = {**others, digest: rows}


class _Line:
    """Ranges that do not meet each other."""

    def __init__(self, ranges: Iterable[range]) -> None:
        ordered = sorted(ranges, key=lambda rows: rows.start)
        self._starts = [rows.start for rows in ordered]
        self._stops = [rows.stop for rows in ordered]
        self.rows = sum(map(len, ordered))

    def meeting(self, place: range) -> int:
        """Return how many of them a place meets."""
        return bisect_left(self._starts, place.stop) - bisect_right(self._stops, place.start)

    def span(self, place: range) -> int:
        """Return how many rows lie from the first to the last of them and of a place."""
        return max([*self._stops[-1:], place.stop]) - min([*self._starts[:1], place.start])


def _span(ranges: Iterable[range]) -> range:
    ranges = list(ranges)
    return range(min(each.start for each in ranges), max(each.stop for each in ranges))
