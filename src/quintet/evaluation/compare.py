"""Base and expert answer the same held-out questions, greedily; the scores stand side by side."""

import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from hashlib import sha256
from statistics import mean
from typing import Any

import torch
from peft import PeftModel

from quintet import base_model
from quintet.chat import ChatTranslator
from quintet.config import Project
from quintet.data.examples import Example
from quintet.data.fitting import Fitter
from quintet.data.loading import read_examples
from quintet.data.splits import data_digest, load_split
from quintet.evaluation.metrics import exact_match, token_f1
from quintet.registry.experts import Expert, write_json

EVALUATION_FILE = "evaluation.json"
Progress = Callable[[int, int], None]
"""Called with the answers made and the answers wanted."""


@dataclass(frozen=True)
class Item:
    """One held-out question with both answers and their token F1."""

    question: str
    reference: str
    base: str
    expert: str
    base_f1: float
    expert_f1: float


@dataclass(frozen=True)
class Scores:
    """Means over the held-out items, each from 0 to 1."""

    f1: float
    exact_match: float


@dataclass(frozen=True)
class Evaluation:
    """What an expert is worth beside its base."""

    expert: str
    identity: str
    base: Scores
    tuned: Scores
    items: tuple[Item, ...]


def evaluate(project: Project, expert: Expert, progress: Progress | None = None) -> Evaluation:
    """Let base and expert answer the department's held-out questions, and keep the result beside the expert."""
    expert.check_files()
    source = base_model.locate(project.config.base_model, project.root)
    expert.check_base(base_model.base_digest(source), project.config.base_model)
    translator = ChatTranslator(base_model.load_tokenizer(str(expert.folder)))
    device = base_model.pick_device()
    model: Any = PeftModel.from_pretrained(base_model.load_model(source, device), str(expert.folder)).eval()
    examples = _held_out(project, expert)
    settings = project.config.evaluation
    done = 0

    def report(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, 2 * len(examples))

    answers = []
    for context in (model.disable_adapter(), nullcontext()):
        with context:
            answers.append(_answer_all(model, translator, examples, settings.max_tokens, settings.batch_size, report))
    result = _score(expert, _identity(project, expert, examples), examples, *answers)
    write_json(expert.folder.parent / EVALUATION_FILE, asdict(result))
    return result


def read_evaluation(project: Project, expert: Expert) -> Evaluation | None:
    """Return the stored evaluation of exactly these weights, questions and settings, if there is one."""
    try:
        stored = json.loads((expert.folder.parent / EVALUATION_FILE).read_text("utf-8"))
        found = Evaluation(
            expert=stored["expert"],
            identity=stored["identity"],
            base=Scores(**stored["base"]),
            tuned=Scores(**stored["tuned"]),
            items=tuple(Item(**item) for item in stored["items"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None  # none yet, or not one of ours: measured again
    return found if found.identity == _identity(project, expert, _held_out(project, expert)) else None


def _held_out(project: Project, expert: Expert) -> list[Example]:
    """Return questions that the expert's training did not see.

    Those kept with the run; or those of the department's held-out file as it is now, when the trained rows are still
    what they were, so that it can be told that none of them is among these.
    """
    settings = project.department(expert.department)
    if settings.eval_data is None or data_digest(project, expert.department) != expert.data_digest:
        return read_examples(expert.held_out)
    source = base_model.locate(project.config.base_model, project.root)
    translator = ChatTranslator(base_model.load_tokenizer(str(expert.folder)))
    fitter = Fitter(translator, base_model.context_length(source), settings.too_long)
    return fitter.fit_all(load_split(project, expert.department).held_out).examples


def _identity(project: Project, expert: Expert, examples: Sequence[Example]) -> str:
    """Return the digest of all that an evaluation depends on."""
    asked = [[(m.role, m.content) for m in example.messages] for example in examples]
    parts = [expert.digest, asked, project.config.evaluation.max_tokens]
    return sha256(json.dumps(parts).encode()).hexdigest()


def _answer_all(
    model: Any,
    translator: ChatTranslator,
    examples: Sequence[Example],
    max_tokens: int,
    batch_size: int,
    report: Callable[[int], None],
) -> list[str]:
    prompts = [translator.encode_prompt(example.prompt) for example in examples]
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    answers = [""] * len(prompts)
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        ids = greedy(model, [prompts[index] for index in chosen], translator.end_ids, max_tokens)
        for index, answer in zip(chosen, ids, strict=True):
            answers[index] = translator.decode(answer)
        report(len(chosen))
    return answers


@torch.inference_mode()
def greedy(model: Any, prompts: Sequence[Sequence[int]], end_ids: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Return the greedy continuation of each prompt, without its end, as one left-padded batch."""
    width = max(map(len, prompts))
    pad = end_ids[0]
    ids = torch.tensor([[pad] * (width - len(p)) + list(p) for p in prompts], device=model.device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=model.device)
    room = min(max_tokens, model.config.max_position_embeddings - width)
    made = model.generate(
        input_ids=ids,
        attention_mask=mask,
        max_new_tokens=max(1, room),
        do_sample=False,
        temperature=None,
        top_p=None,
        top_k=None,
        eos_token_id=list(end_ids),
        pad_token_id=pad,
    )
    return [_until_end(row, end_ids) for row in made[:, width:].tolist()]


def _until_end(ids: list[int], end_ids: Sequence[int]) -> list[int]:
    end = next((position for position, id_ in enumerate(ids) if id_ in end_ids), len(ids))
    return ids[:end]


def _score(expert: Expert, identity: str, examples: Sequence[Example], base: list[str], tuned: list[str]) -> Evaluation:
    items = tuple(
        Item(e.question, e.answer, b, t, round(token_f1(b, e.answer), 4), round(token_f1(t, e.answer), 4))
        for e, b, t in zip(examples, base, tuned, strict=True)
    )
    return Evaluation(
        expert.name,
        identity,
        Scores(_mean(i.base_f1 for i in items), _mean(exact_match(i.base, i.reference) for i in items)),
        Scores(_mean(i.expert_f1 for i in items), _mean(exact_match(i.expert, i.reference) for i in items)),
        items,
    )


def _mean(values: Iterable[float]) -> float:
    return round(float(mean(values)), 4)
