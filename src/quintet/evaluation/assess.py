"""Assessment: an expert's evaluation against base and live release, and the gate's verdicts on it.

What was measured before is not measured again unless it is wanted. The caller says where progress and warnings go.
Imports the registry only when it is used: commands that measure nothing start faster.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, NamedTuple, Protocol

from quintet.config import Project
from quintet.errors import ModelError, QuintetError

if TYPE_CHECKING:
    from quintet.evaluation.results import Evaluation, Verdict
    from quintet.registry.experts import Expert

Advance = Callable[[int, int], None]
"""Called with how much is done, and of how much."""


class ProgressReporter(Protocol):
    """Where an assessment shows its progress, its warnings and its errors."""

    def progress(self) -> AbstractContextManager[Callable[[str], Advance]]:
        """Yield what begins a progress bar of a name."""

    def warn(self, message: str) -> None:
        """Tell of what was left out."""

    def complain(self, message: str) -> None:
        """Tell of an error that does not end the work."""


class Worth(NamedTuple):
    """An expert, its evaluation, and the gate's verdicts; None and none of them where it was not measured."""

    expert: "Expert"
    evaluation: "Evaluation | None" = None
    verdicts: "tuple[Verdict, ...]" = ()

    @property
    def passed(self) -> bool:
        """Whether the gate lets it through; an expert that was not measured does not pass."""
        return self.evaluation is not None and all(verdict.passed for verdict in self.verdicts)


def measure_each(project: Project, experts: "Sequence[Expert]", reporter: ProgressReporter) -> list[Worth]:
    """Measure the experts that were not measured yet; one that cannot be is complained of, and has no scores."""
    found = []
    for expert in experts:
        try:
            found.append(measure(project, expert, reporter, again=False))
        except QuintetError as error:
            reporter.complain(f"{expert.name}: {error}")
            found.append(Worth(expert))
    return found


def measure(project: Project, expert: "Expert", reporter: ProgressReporter, *, again: bool) -> Worth:
    """Measure the expert and write its report; what was measured before stands unless it is wanted `again`."""
    from quintet.evaluation.compare import evaluate, read_evaluation
    from quintet.evaluation.gate import judge
    from quintet.evaluation.records import write_report

    check_can_answer(project, expert)
    rival = live_expert(project, expert.department)
    try:
        if rival is not None:
            check_can_answer(project, rival)
    except ModelError as error:
        reporter.warn(f"{rival.name if rival else ''}, which is live, is not compared: {error}")
        rival = None
    found = None if again else read_evaluation(project, expert)
    if found is None or not (rival is None or rival.name in (expert.name, found.names.get("live"))):
        with reporter.progress() as begin:
            found = evaluate(project, expert, begin(f"{expert.department:<12} evaluating"), rival)
            found = _ask_elsewhere(project, expert, found, begin)
    verdicts = judge(found, project.gate(expert.department))
    write_report(project, expert, found, verdicts)
    return Worth(expert, found, verdicts)


def _ask_elsewhere(
    project: Project, expert: "Expert", found: "Evaluation", begin: Callable[[str], Advance]
) -> "Evaluation":
    """Add what a judge and an embeddings endpoint say, where the project names them."""
    from quintet.evaluation.compare import write_evaluation
    from quintet.evaluation.judge import judge_evaluation
    from quintet.evaluation.similarity import measure_similarity

    settings = project.config.evaluation
    if settings.similarity is not None:
        found = measure_similarity(found, settings.similarity.settings())
    if settings.judge is not None:
        found = judge_evaluation(found, settings.judge.settings(), begin(f"{expert.department:<12} judging"))
    if settings.similarity or settings.judge:
        write_evaluation(expert, found)
    return found


def check_can_answer(project: Project, expert: "Expert") -> None:
    """Raise ModelError for an expert of another base, or one whose files are not those that were trained."""
    from quintet.models.base_model import base_digest, locate

    if not expert.is_whole:
        raise ModelError(
            f"the files of {expert.name} are gone or are not those that were trained: quintet experts verify"
        )
    expert.check_files()
    expert.check_base(base_digest(locate(project.config.base_model, project.root)), project.config.base_model)


def live_expert(project: Project, department: str) -> "Expert | None":
    """Return the expert that answers for the department now, or for most of it."""
    from quintet.registry.experts import find_expert
    from quintet.registry.releases import live

    release = live(project, department)
    try:
        return None if release is None else find_expert(project, f"{department}@{release.main}")
    except ModelError:
        return None  # its files are gone everywhere: nothing can be compared with it
