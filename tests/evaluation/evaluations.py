"""Evaluations built by hand: small, and of every kind that a report has to show."""

from quintet.evaluation.metrics import token_f1
from quintet.evaluation.results import (
    BASE,
    EXPERT,
    LIVE,
    AnswerText,
    ClassScores,
    Comparison,
    Evaluation,
    Interval,
    Item,
    Judged,
    LabelScores,
    Outcomes,
    Preferences,
    Verdict,
)

HOSTILE = (
    "</script><script>document.title='run'</script>\"'><img src=x onerror=\"document.title='run'\">&amp;{{ 7 * 7 }}"
)
PASSED = Verdict("better-than-base", True, 0.412, 0.0, "Token F1 is above the base's.")
FAILED = Verdict("better-than-live", False, -0.0213, 0.01, "Token F1 is not above hr@2's.")
NAMES = {BASE: "base", LIVE: "hr@2", EXPERT: "hr@3"}


def said(text: str, reference: str, ended: bool = True) -> AnswerText:
    return AnswerText(text, len(text.split()), ended, {"f1": token_f1(text, reference)})


def item(question: str, reference: str, ended: bool = True, **answers: str) -> Item:
    return Item(question, reference, {key: said(text, reference, ended) for key, text in answers.items()})


ITEMS = (
    item(
        "How long is my leave?", "You get 26 days.", base="I cannot know.", live="You get 26 days.", expert="26 days."
    ),
    item("When is pay day?", "On the 27th.", base="Ask your manager.", live="On the 27th.", expert="On the 27th."),
    item("Where do I park?", "Behind the clinic.", False, base="Behind it.", live="The clinic.", expert="No."),
)


def comparison(wins: int = 1, ties: int = 1, losses: int = 1, /, **intervals: tuple[float, float, float]) -> Comparison:
    made = {"f1": Interval(0.41, 0.35, 0.47), **{key: Interval(*ends) for key, ends in intervals.items()}}
    return Comparison(made, Outcomes(wins, ties, losses))


def evaluation(
    items: tuple[Item, ...] = ITEMS,
    live: bool = True,
    scores: dict[str, dict[str, float]] | None = None,
    comparisons: dict[str, Comparison] | None = None,
    labels: dict[str, LabelScores] | None = None,
    preferences: Preferences | None = None,
) -> Evaluation:
    contestants = [BASE, LIVE, EXPERT] if live else [BASE, EXPERT]
    f1 = {BASE: 0.1234, LIVE: 0.5, EXPERT: 0.8249}
    return Evaluation(
        department="hr",
        method="lora",
        base_model="nano",
        identity="0f1e2d",
        names={key: NAMES[key] for key in contestants},
        scores=scores or {key: {"f1": f1[key]} for key in contestants},
        comparisons=comparisons or {key: comparison() for key in contestants[:-1]},
        items=items,
        signature="nrefs:1|case:mixed|tok:13a|version:2.5.1",
        labels=labels or {},
        preferences=preferences,
    )


def label_scores(accuracy: float, label: str = "leave") -> LabelScores:
    classes = (ClassScores(label, 0.91, 0.82, 0.73, 11), ClassScores("pay", 0.64, 0.55, 0.46, 12))
    return LabelScores(accuracy, 0.37, 0.28, classes, ((9, 1, 1), (3, 5, 4)))


def judged(*verdicts: str, prompt: str = "Which is better?") -> Judged:
    counts = {word: verdicts.count(word) for word in ("win", "tie", "loss", "inconsistent", "unreadable")}
    ties = counts["tie"] + counts["inconsistent"]
    return Judged(
        "big", "https://host/v1", prompt, counts["win"], ties, counts["loss"], counts["inconsistent"],
        counts["unreadable"], verdicts,
    )  # fmt: skip
