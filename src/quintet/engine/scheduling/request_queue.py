"""Request queue: one queue a department, served by deficit round robin. Knows nothing of blocks and batches."""

from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from quintet.engine.scheduling.sequence import Sequence


@dataclass(eq=False)
class _Department:
    name: str
    credit: int = 0
    queue: deque[Sequence] = field(default_factory=deque)


class RequestQueue:
    """Waiting sequences; departments that wait at the same time are served the same number of tokens.

    Deficit round robin (Shreedhar and Varghese, 1995): in each round a department gets `quantum` tokens of credit, and
    begins what it can pay. A prompt is paid when it begins, an answer token by token; whoever has nothing waiting
    neither saves nor owes.
    """

    def __init__(self, quantum: int = 64) -> None:
        self._quantum = quantum
        self._round: deque[_Department] = deque()
        self._departments: dict[str, _Department] = {}
        self.fresh = 0

    def __len__(self) -> int:
        return sum(len(department.queue) for department in self._round)

    def __iter__(self) -> Iterator[Sequence]:
        return (sequence for department in self._round for sequence in department.queue)

    @property
    def departments(self) -> set[str]:
        """Those who wait."""
        return set(self._departments)

    def append(self, sequence: Sequence) -> None:
        """Put a new sequence behind the others of its department."""
        self._department(sequence.department).queue.append(sequence)
        self.fresh += 1

    def put_back(self, sequence: Sequence) -> None:
        """Put a sequence that had begun in front of the others of its department."""
        self._department(sequence.department).queue.appendleft(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Take out a sequence, wherever it stands."""
        department = self._departments[sequence.department]
        department.queue.remove(sequence)
        self.fresh -= not sequence.began
        if not department.queue:
            del self._departments[department.name]
            self._round.remove(department)

    def next(self, passed: Collection[str] = ()) -> Sequence | None:
        """Return the sequence whose turn it is, of a department that is not passed over."""
        if all(name in passed for name in self._departments):
            return None
        while True:
            department = next(each for each in self._round if each.name not in passed)
            if department.credit >= _price(department.queue[0]):
                return department.queue[0]
            department.credit += self._quantum
            self._round.remove(department)
            self._round.append(department)

    def begin(self, sequence: Sequence) -> None:
        """Let a sequence go, for its price."""
        self.charge(sequence.department, _price(sequence))
        self.remove(sequence)

    def charge(self, department: str, tokens: int) -> None:
        """Note that a department was served; it matters only while it has more waiting."""
        if department in self._departments:
            self._departments[department].credit -= tokens

    def _department(self, name: str) -> _Department:
        if name not in self._departments:
            self._departments[name] = _Department(name)
            self._round.append(self._departments[name])
        return self._departments[name]


def _price(sequence: Sequence) -> int:
    """Return what beginning costs; what is computed again, for the sake of others, was paid before."""
    return 0 if sequence.began else len(sequence.prompt_ids)
