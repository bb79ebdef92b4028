"""Scores of answers against their references. Knows nothing of models."""

import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ROUGE_WORD = re.compile(r"[a-z0-9]+")


@dataclass(frozen=True)
class Overlap:
    """The words that an answer shares with its reference, as precision, recall and F1, each from 0 to 1."""

    precision: float
    recall: float
    f1: float


def normalise(text: str) -> list[str]:
    """Return the words that count: lower case, no ASCII punctuation, no English articles.

    As the evaluation of SQuAD does it (Rajpurkar et al. 2016, arXiv:1606.05250).
    """
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def exact_match(answer: str, reference: str) -> float:
    """Return 1.0 when both have the same normalised words in the same order, else 0.0.

    SQuAD's exact match (Rajpurkar et al. 2016, arXiv:1606.05250, section 6.1).
    """
    return float(normalise(answer) == normalise(reference))


def token_overlap(answer: str, reference: str) -> Overlap:
    """Return how far the normalised words of an answer and its reference agree, as bags of words.

    With m shared words, precision P = m/|answer|, recall R = m/|reference| and F1 = 2PR/(P + R) = 2m/(|answer| +
    |reference|) (SQuAD, Rajpurkar et al. 2016, arXiv:1606.05250, section 6.1). Where one of them has no words all three
    are 0; where neither has, 1 (as in SQuAD 2.0, Rajpurkar et al. 2018, arXiv:1806.03822).
    """
    found, wanted = normalise(answer), normalise(reference)
    if not found or not wanted:
        same = float(found == wanted)
        return Overlap(same, same, same)
    shared = (Counter(found) & Counter(wanted)).total()
    # One division: equal ratios give equal floats, so that ties are ties.
    return Overlap(shared / len(found), shared / len(wanted), 2 * shared / (len(found) + len(wanted)))


def token_f1(answer: str, reference: str) -> float:
    """Return the F1 of `token_overlap`, from 0 to 1."""
    return token_overlap(answer, reference).f1


def rouge_l(answer: str, reference: str) -> float:
    """Return ROUGE-L, the F-measure of the longest common subsequence of words, from 0 to 1.

    With l words in that subsequence, P = l/|answer|, R = l/|reference| and F = 2PR/(P + R) = 2l/(|answer| +
    |reference|) (Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries", section 3.1, beta = 1). Words are
    those of Google's rouge-score without stemming: runs of a-z and 0-9 in lower case, so that letters beyond these
    part words and text in another script has none. 0 where either has no words.
    """
    found, wanted = (_ROUGE_WORD.findall(text.lower()) for text in (answer, reference))
    if not found or not wanted:
        return 0.0
    row = [0] * (len(wanted) + 1)
    for word in found:
        above, row = row, [0]
        for column, against in enumerate(wanted):
            row.append(above[column] + 1 if word == against else max(above[column + 1], row[column]))
    return 2 * row[-1] / (len(found) + len(wanted))


def chrf(answer: str, reference: str) -> float:
    """Return the answer's chrF2, the F-score of its character n-grams, from 0 to 100, by sacrebleu.

    With P and R the precision and recall of n-grams, averaged over the n from 1 to 6 that both texts reach, white space
    left out, chrF = 100 · 5PR/(4P + R): recall counts twice (Popović 2015, "chrF: character n-gram F-score for
    automatic MT evaluation"). 0 where either text is empty.
    """
    return float(CHRF().sentence_score(answer, [reference]).score)


def corpus_bleu(answers: Sequence[str], references: Sequence[str]) -> tuple[float, str]:
    """Return the BLEU of all answers together, from 0 to 100, and sacrebleu's signature of how it was measured.

    BLEU = 100 · exp(min(0, 1 - r/c)) · (p1 p2 p3 p4)^(1/4), with pn the share of the answers' n-grams that their
    references have, c and r the words in all answers and in all references (Papineni et al. 2002, "BLEU: a Method for
    Automatic Evaluation of Machine Translation"; Post 2018, arXiv:1804.08771). 0 where no answer has four words, even
    if all are right. Raises ValueError when there are no answers, or not as many as references.
    """
    if not answers or len(answers) != len(references):
        # sacrebleu would score as many as there are of both, and not say so.
        found = f"{len(answers)} answers and {len(references)} references"
        raise ValueError(f"expected one reference for each of at least one answer, found {found}")
    metric = BLEU()
    score = float(metric.corpus_score(answers, [references]).score)
    return min(score, 100.0), str(metric.get_signature())  # exp(log 100) is a little more than 100


def answer_metrics(answer: str, reference: str) -> dict[str, float]:
    """Return every metric of one answer by name: chrf from 0 to 100, the others from 0 to 1."""
    overlap = token_overlap(answer, reference)
    return {
        "exact_match": exact_match(answer, reference),
        "precision": overlap.precision,
        "recall": overlap.recall,
        "f1": overlap.f1,
        "rouge_l": rouge_l(answer, reference),
        "chrf": chrf(answer, reference),
    }
