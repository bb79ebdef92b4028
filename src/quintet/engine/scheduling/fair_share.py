"""Start-time fair queueing: which departments take part in a step, by virtual clocks.

A step lasts the longer the more is computed in it. So a department that asks much holds up one that asks little, though
each step has all that both ask. Fair is that both get on, compared with how each would by itself, about equally fast.
Each department has a virtual clock. For a step that it takes part in, the clock advances by what its part would have
taken alone; a department whose clock is ahead skips steps until the others have caught up (start-time fair queueing,
Goyal et al., 1996, with such times as the cost). What a part takes longer than the least of the parts counts double: so
of two departments, the one that asks less is held up by no more than half.

Where a step lasts no longer for more tokens, as on a GPU, no clock gets ahead and no department skips a step.
"""

from collections.abc import Mapping

from quintet.engine.scheduling.step_time import StepTimeModel

EXCESS = 2
"""How many times over a clock counts what a part takes longer than the least of the parts."""
CHEAP = 1.25
"""How much longer a step may last for the sake of those whose turn it is not; less is not worth their sitting out."""


class VirtualClocks:
    """The clocks of the departments, for steps of at most `most` tokens; `next` and `took` take turns."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._step_time = StepTimeModel()
        self._clocks: dict[str, float] = {}
        self._present: set[str] = set()
        self._due: set[str] = set()
        self._time = 0.0

    def next(self, wanted: Mapping[str, int]) -> set[str]:
        """Return who takes part in the next step, given how many tokens each department could compute in it."""
        for name in set(wanted) - self._present:
            self._clocks[name] = max(self._time, self._clocks.get(name, self._time))
        self._present = set(wanted)
        ahead = {name for name, clock in self._clocks.items() if clock > self._time}
        self._clocks = {name: clock for name, clock in self._clocks.items() if name in self._present | ahead}
        first = min(wanted, key=self._clocks.__getitem__)
        self._time = self._clocks[first]
        limit = self._time + self._step_time.seconds(wanted[first])
        self._due = {name for name in wanted if self._clocks[name] <= limit}
        everybody = set(wanted)
        is_cheap = self._together(wanted, everybody) <= CHEAP * self._together(wanted, self._due)
        return everybody if is_cheap else self._due

    def took(self, tokens: Mapping[str, int], seconds: float) -> None:
        """Note how many tokens of each department a step computed, and how long it took in all.

        Whoever took part without its being its turn owes nothing for it.
        """
        self._step_time.note(sum(tokens.values()), seconds)
        alone = {name: self._step_time.seconds(number) for name, number in tokens.items()}
        least = min(alone.values())
        for name in self._due & set(tokens):
            self._clocks[name] += least + EXCESS * (alone[name] - least)

    def _together(self, wanted: Mapping[str, int], names: set[str]) -> float:
        return self._step_time.seconds(min(self._most, sum(wanted[name] for name in names)))
