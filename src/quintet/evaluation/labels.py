"""Answers to a label task → scores per label and a confusion matrix. Knows nothing of models."""

from collections.abc import Mapping, Sequence
from unicodedata import category

from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from quintet.evaluation.results import ClassScores, LabelScores

# Not all punctuation: C, C++ and C# are three labels, and so are A+ and A-.
_QUOTES_AND_BRACKETS = {"Pi", "Pf", "Ps", "Pe"}
_MARKS = frozenset("\"'`*_.,:;!?…。")


def score_labels(answers: Sequence[str], references: Sequence[str], labels: Sequence[str]) -> LabelScores:
    r"""Return accuracy, precision, recall and F1 per label, their macro F1, and the confusion matrix.

    A text counts as a label when both are equal once lower-cased (`str.casefold`) and stripped, at their two ends, of
    white space (`str.isspace`), of what Unicode calls an opening or closing quote or bracket (Pi, Pf, Ps, Pe), and of
    " ' ` * _ . , : ; ! ? … and 。 in any order: ` **“Urgent”**.\n` is `urgent`, `It is urgent` is none. References are
    read the same way.

    With c the confusion matrix, label i has precision c[i][i] / sum_j c[j][i], recall c[i][i] / sum_j c[i][j] and F1
    their harmonic mean, 0 where a divisor is. Macro F1 is the plain mean of F1 over all given labels, those without
    items included, and not the F1 of mean precision and mean recall (Opitz and Burst 2019, "Macro F1 and Macro F1",
    arXiv:1911.03347). Classes, rows and columns come in the order of `labels`; the last column counts answers that are
    no label.

    Raises ValueError when there are no answers, when there are not as many as references, when a reference is no label,
    and when there are no labels or two of them, or one and an empty text, would read alike.
    """
    if not labels:
        raise ValueError("expected at least one label, found none")
    numbers: dict[str, int] = {}
    for number, label in enumerate(labels):
        text = _read(label)
        if not text:
            raise ValueError(f"label {label!r} has nothing but punctuation and white space: give it a name")
        if text in numbers:
            raise ValueError(f"labels {labels[numbers[text]]!r} and {label!r} read alike: give one another name")
        numbers[text] = number
    if not answers or len(answers) != len(references):
        found = f"{len(answers)} answers and {len(references)} references"
        raise ValueError(f"expected one reference for each of at least one answer, found {found}")
    wanted = [_wanted(numbers, reference, item, labels) for item, reference in enumerate(references)]
    given = [numbers.get(_read(answer), len(labels)) for answer in answers]
    return _score(wanted, given, labels)


def is_label(answer: str, reference: str) -> float:
    """Return 1.0 when both read as the same label, as `score_labels` reads them, else 0.0."""
    return float(_read(answer) == _read(reference))


def _read(text: str) -> str:
    inside = [
        place
        for place, character in enumerate(text)
        if not (character in _MARKS or character.isspace() or category(character) in _QUOTES_AND_BRACKETS)
    ]
    return text[inside[0] : inside[-1] + 1].casefold() if inside else ""


def _wanted(numbers: Mapping[str, int], reference: str, item: int, labels: Sequence[str]) -> int:
    number = numbers.get(_read(reference))
    if number is None:
        raise ValueError(f"expected one of {', '.join(labels)} as the reference of item {item}, found {reference!r}")
    return number


def _score(wanted: Sequence[int], given: Sequence[int], labels: Sequence[str]) -> LabelScores:
    none = len(labels)
    counts = confusion_matrix(wanted, given, labels=range(none + 1))[:none]
    columns = precision_recall_fscore_support(wanted, given, labels=range(none), average=None, zero_division=0)
    precision, recall, f1 = (column.tolist() for column in columns[:3])
    support = counts.sum(axis=1).tolist()
    return LabelScores(
        accuracy=float(counts.trace() / len(wanted)),
        macro_f1=float(columns[2].mean()),
        no_label=float(counts[:, none].sum() / len(wanted)),
        classes=tuple(map(ClassScores, labels, precision, recall, f1, support)),
        confusion=tuple(map(tuple, counts.tolist())),
    )
