"""One department from its plan to its expert: what is there is kept, what it starts from is made first.

Prints nothing: a listener is told, here or in another process.
"""

from collections.abc import Callable
from dataclasses import dataclass

from quintet.config import Project
from quintet.registry.experts import Expert
from quintet.training.objectives import Objective
from quintet.training.plan import deviation, read_estimate
from quintet.training.preparation import Plan
from quintet.training.run import find_stopped, find_trained, train


@dataclass(frozen=True)
class Note:
    """Something to know about a department's training, in words; a warning is more than that."""

    department: str
    text: str
    is_warning: bool = False


@dataclass(frozen=True)
class TrainingStep:
    """How far one run of a department is, and its last loss; while it is made ready, of an unknown number of steps."""

    department: str
    objective: Objective
    step: int
    steps: int | None
    loss: float | None


Listener = Callable[[Note | TrainingStep], None]


def train_department(
    project: Project, plan: Plan, listener: Listener, *, force: bool = False, resume: bool = False
) -> Expert:
    """Return the expert that the plan leads to; raise QuintetError when it leads to none.

    `force` trains even what is trained and unchanged; `resume` goes on where a run was stopped.
    """
    trained = None if force else find_trained(project, plan)
    if trained is not None:
        listener(Note(plan.department, f"{trained.name} is trained and unchanged"))
        return trained
    start = plan.start
    if isinstance(start, Plan):
        known = None if force else find_trained(project, start, newest=False)
        start = known or _run(project, start, None, listener, resume)
    return _run(project, plan, start, listener, resume)


def _run(project: Project, plan: Plan, start: Expert | None, listener: Listener, resume: bool) -> Expert:
    for note in plan.notes:
        listener(Note(plan.department, note, is_warning=True))
    checkpoint = find_stopped(project, plan) if resume else None
    if checkpoint is not None:
        listener(Note(plan.department, f"goes on from {checkpoint}"))

    def report(step: int, steps: int | None, loss: float | None) -> None:
        listener(TrainingStep(plan.department, plan.objective, step, steps, loss))

    report(0, None, None)
    expert = train(project, plan, report, start=start, resume_from=checkpoint)
    expected = read_estimate(project, plan)
    if expected is not None and checkpoint is None:
        listener(Note(plan.department, deviation(expected, expert.seconds, expert.peak_bytes)))
    return expert
