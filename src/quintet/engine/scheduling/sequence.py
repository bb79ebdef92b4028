"""One request on its way: its tokens, its blocks, how far it got. Plain state."""

from dataclasses import dataclass, field
from enum import Enum
from random import Random

from quintet.engine.interface import FinishReason, Progress, Request, SamplingParams


class Status(Enum):
    """Where a sequence is: waiting for its adapter, in the queue, holding blocks, or gone."""

    WAITING_FOR_ADAPTER = "waiting for adapter"
    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"


@dataclass(eq=False)
class Sequence:
    """A prompt and the answer so far.

    `num_virtual_tokens` is how many places of the cache the adapter's virtual tokens take in front; it and
    `max_new_tokens` are final once the adapter is in memory. `deadline` is a time on the clock that the scheduler is
    given.
    """

    prompt_ids: tuple[int, ...]
    end_ids: tuple[int, ...]
    max_new_tokens: int
    sampling: SamplingParams
    expert: str | None = None
    num_virtual_tokens: int = 0
    department: str = ""
    deadline: float | None = None
    progress: Progress = field(default_factory=Progress)

    status: Status = Status.WAITING
    arrival: int = 0
    began: bool = False
    num_skips: int = 0
    ids: list[int] = field(init=False)
    random: Random = field(init=False)
    # The accounts of the cache: blocks in order, their keys, how many are shared, and the tokens whose state they hold.
    blocks: list[int] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)
    num_cached_blocks: int = 0
    num_computed_tokens: int = 0

    def __post_init__(self) -> None:
        self.ids = list(self.prompt_ids)
        self.random = Random(self.sampling.seed)

    @property
    def generated(self) -> tuple[int, ...]:
        """The answer so far."""
        return tuple(self.ids[len(self.prompt_ids) :])

    @property
    def remaining(self) -> int:
        """How many tokens are still to be computed before the next can be chosen."""
        return len(self.ids) - self.num_computed_tokens

    def accept(self, id_: int) -> FinishReason | None:
        """Take a chosen id, and return why it is the last one, if it is; an end id is not kept."""
        if id_ in self.end_ids:
            return "stop"
        self.ids.append(id_)
        return "length" if len(self.ids) - len(self.prompt_ids) >= self.max_new_tokens else None


def sequence_of(request: Request, now: float) -> Sequence:
    """Return the sequence of a request, before anything is known of its expert."""
    expert = request.adapter.digest if request.adapter else None
    return Sequence(
        prompt_ids=request.prompt_ids,
        end_ids=request.end_ids,
        max_new_tokens=request.sampling.max_tokens,
        sampling=request.sampling,
        expert=expert,
        department=request.department or expert or "",
        deadline=None if request.timeout is None else now + request.timeout,
        progress=request.progress or Progress(),
    )
