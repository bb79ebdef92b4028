"""Every expert on every department's held-out questions, and on general ones: what was learnt, what was forgotten."""

from collections.abc import Callable, Sequence
from typing import Any

from quintet.chat import ChatTranslator
from quintet.config import Project
from quintet.evaluation.compare import held_out_examples
from quintet.evaluation.general import encode_general
from quintet.evaluation.likelihood import answer_losses
from quintet.evaluation.results import ForgettingMatrix
from quintet.models import base_model
from quintet.models.peft_model import load_expert_model
from quintet.registry.experts import Expert

GENERAL_SET = "general"


def measure_forgetting(
    project: Project, experts: Sequence[Expert], report: Callable[[int], None] = lambda _: None
) -> ForgettingMatrix:
    """Return the perplexity of the reference answers under the base and each expert, on each set.

    The sets are the held-out questions of the experts' departments, and the general questions. Perplexity takes one
    pass over the answers, and sees a change long before an answer turns wrong. `report` is told of each model done.
    """
    source = base_model.locate(project.config.base_model, project.root)
    for expert in experts:
        expert.check_files()
        expert.check_base(base_model.base_digest(source), project.config.base_model)
    base = base_model.load_model(source, base_model.pick_device())
    translator = ChatTranslator(base_model.load_tokenizer(source))
    sets = {
        e.department: translator.encode_examples([example.messages for example in held_out_examples(project, e)])
        for e in experts
    }
    sets[GENERAL_SET] = encode_general(project, translator)

    def measure(model: Any) -> tuple[float, ...]:
        found = tuple(round(answer_losses(model, rows).perplexity, 4) for rows in sets.values())
        report(1)
        return found

    return ForgettingMatrix(
        experts=tuple(expert.name for expert in experts),
        sets=tuple(sets),
        base=measure(base),
        perplexity=tuple(measure(load_expert_model(expert.folder, base)) for expert in experts),
    )
