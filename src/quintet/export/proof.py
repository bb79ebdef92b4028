"""What was written, loaded again, beside the expert as it is served. Knows nothing of how it was written."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch

from quintet.chat import ChatTranslator
from quintet.config import Project
from quintet.data.examples import Example
from quintet.errors import ExportError
from quintet.evaluation.compare import Measured, Progress, counter, held_out_examples, measure_model
from quintet.evaluation.metrics import answer_metrics
from quintet.models.base_model import load_model, load_tokenizer, locate, pick_device
from quintet.models.peft_model import load_expert_model
from quintet.registry.experts import Expert


@dataclass(frozen=True)
class Bound:
    """How far token F1 may differ, and by which share the perplexity of the references."""

    f1: float
    perplexity: float


# A merge in float32 moves a logit by its last digits alone, and rounding to float16 hardly more. bfloat16 keeps 8 bits:
# where two words were as likely the other one may come out, and all after it. Served in it, nano's merged experts gave
# up to 5 of 100 answers otherwise, F1 off by 0.026; perplexity, which has no such ties, moved by 0.02%.
BOUNDS = {
    torch.float32: Bound(f1=0.01, perplexity=0.01),
    torch.float16: Bound(f1=0.01, perplexity=0.01),
    torch.bfloat16: Bound(f1=0.05, perplexity=0.01),
}


@dataclass(frozen=True)
class ProvenAnswers:
    """A model's token F1, and how well it foretells the references."""

    f1: float
    perplexity: float


@dataclass(frozen=True)
class Proof:
    """The expert as it is served and as it was written, on the same held-out questions.

    `same_answers` is the share of greedy answers that are the same, token by token.
    """

    questions: int
    same_answers: float
    served: ProvenAnswers
    exported: ProvenAnswers
    bound: Bound

    @property
    def holds(self) -> bool:
        """Whether both differences are within the bound; what is not a number is not."""
        f1 = abs(self.exported.f1 - self.served.f1)
        perplexity = abs(self.exported.perplexity / self.served.perplexity - 1)
        return f1 <= self.bound.f1 and perplexity <= self.bound.perplexity

    def __str__(self) -> str:
        served, exported, bound = self.served, self.exported, self.bound
        return (
            f"on {self.questions} held-out questions, {self.same_answers:.0%} of the answers are the same; "
            f"token F1 {served.f1:.4f} as served, {exported.f1:.4f} as exported (may differ by {bound.f1:g}); "
            f"perplexity {served.perplexity:.4f} and {exported.perplexity:.4f} (may differ by {bound.perplexity:.0%})"
        )


def prove(
    project: Project,
    expert: Expert,
    dtype: torch.dtype,
    load: Callable[[str, torch.dtype], tuple[Any, ChatTranslator]],
    progress: Progress | None = None,
) -> Proof:
    """Measure what `load` gives, for a device and the dtype of serving, against the expert; raise when it is another.

    `dtype` is what the weights were rounded to. Raises ExportError with the numbers of both.
    """
    examples = held_out_examples(project, expert)
    if not examples:
        raise ExportError(f"{expert.name} has no held-out questions to prove an export by; name some as eval_data")
    report = counter(progress, 2 * len(examples))
    base = load_model(locate(project.config.base_model, project.root), pick_device())
    model, translator = load_expert_model(expert.folder, base), ChatTranslator(load_tokenizer(str(expert.folder)))
    device, serving = str(model.device), model.dtype
    served = measure_model(project, model, translator, examples, report)
    del model  # two models of the size need not be in memory at once
    exported, own = load(device, serving)
    found = measure_model(project, exported, own, examples, report)
    same = fmean(a == b for a, b in zip(served.answers, found.answers, strict=True))
    bound = BOUNDS[max((dtype, serving), key=lambda kind: torch.finfo(kind).eps)]
    worth = (_worth(served, translator, examples), _worth(found, own, examples))
    proof = Proof(len(examples), round(same, 4), *worth, bound)
    if not proof.holds:
        raise ExportError(f"what was written is not what is served: {proof}; it was removed; {_fix(expert, dtype)}")
    return proof


def _worth(measured: Measured, translator: ChatTranslator, examples: Sequence[Example]) -> ProvenAnswers:
    texts = [translator.decode(answer.ids) for answer in measured.answers]
    f1 = fmean(answer_metrics(text, one.answer)["f1"] for text, one in zip(texts, examples, strict=True))
    return ProvenAnswers(round(f1, 6), round(measured.losses.perplexity, 6))


def _fix(expert: Expert, dtype: torch.dtype) -> str:
    if dtype != torch.float32:
        return "rounding may be to blame: try --dtype float32"
    return "take --format adapter" if expert.is_adapter else f"train again: quintet train {expert.department} --force"
