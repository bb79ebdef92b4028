"""May this expert be released? Holds an evaluation against the rules of quintet.yaml; measures nothing."""

from collections.abc import Iterator

from quintet.config import GateConfig
from quintet.evaluation.results import BASE, EXPERT, LIVE, Evaluation, Interval, Verdict


def judge(evaluation: Evaluation, rules: GateConfig) -> tuple[Verdict, ...]:
    """Return what each rule that applies says, with what was found, the limit, and both in words."""
    return tuple(_verdicts(evaluation, rules))


def _verdicts(evaluation: Evaluation, rules: GateConfig) -> Iterator[Verdict]:
    if rules.questions is not None:
        found = len(evaluation.items)
        said = f"it was measured on {found} held-out questions; the gate needs at least {rules.questions}"
        yield Verdict("questions", found >= rules.questions, found, rules.questions, said)
    if rules.better_than_base:
        yield _better_than_base(evaluation, rules.metric)
    if rules.specific and evaluation.specificity is not None:
        yield _fits_its_question(evaluation.specificity, rules.metric)
    if rules.live_margin is not None and LIVE in evaluation.comparisons:
        yield _not_worse_than_live(evaluation, rules.metric, rules.live_margin)
    if rules.ended is not None:
        yield _ends_its_turn(evaluation, rules.ended)
    if rules.general_perplexity is not None:
        yield _forgets_little(evaluation, rules.general_perplexity)


def _better_than_base(evaluation: Evaluation, metric: str) -> Verdict:
    found = evaluation.comparisons[BASE].intervals[metric]
    passed = found.low > 0
    said = (
        f"{metric} is {_beside(evaluation, metric, BASE)}: a difference of {found.mean:+.3f}, "
        f"95% interval {found.low:+.3f} to {found.high:+.3f}, "
        f"{'all of it' if passed else 'not all of it'} above 0"
    )
    return Verdict("better_than_base", passed, found.low, 0.0, said)


def _fits_its_question(found: Interval, metric: str) -> Verdict:
    passed = found.low > 0
    said = (
        f"{metric} with the own question's reference is {found.mean:+.3f} above that with other questions', "
        f"95% interval {found.low:+.3f} to {found.high:+.3f}, {'all of it' if passed else 'not all of it'} above 0"
    )
    return Verdict("specific", passed, found.low, 0.0, said)


def _not_worse_than_live(evaluation: Evaluation, metric: str, margin: float) -> Verdict:
    # chrF goes to 100, the margin is a share.
    found = evaluation.comparisons[LIVE].intervals[metric].mean / (100 if metric == "chrf" else 1)
    said = (
        f"{metric} is {_beside(evaluation, metric, LIVE)}: a difference of {found:+.3f}, where {-margin:+.3f} is the "
        "least allowed"
    )
    return Verdict("live_margin", found >= -margin, found, -margin, said)


def _ends_its_turn(evaluation: Evaluation, least: float) -> Verdict:
    found = evaluation.scores[EXPERT]["ended"]
    said = f"{found:.1%} of the answers end their turn, where {least:.1%} is the least allowed"
    return Verdict("ended", found >= least, found, least, said)


def _forgets_little(evaluation: Evaluation, most: float) -> Verdict:
    base, expert = (evaluation.scores[key]["general_perplexity"] for key in (BASE, EXPERT))
    found = expert / base
    said = (
        f"the perplexity of general answers is {expert:.1f}, the base's {base:.1f}: {found:.2f} times, "
        f"where {most:g} times is the most allowed"
    )
    return Verdict("general_perplexity", found <= most, found, most, said)


def _beside(evaluation: Evaluation, metric: str, other: str) -> str:
    expert, against = (evaluation.scores[key][metric] for key in (EXPERT, other))
    return f"{expert:.3f}, that of {evaluation.names[other]} {against:.3f}"
