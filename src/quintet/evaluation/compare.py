"""Base and expert answer the same held-out questions, greedily; the scores stand side by side."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from statistics import mean
from typing import Any

import torch

from quintet import base_model
from quintet.chat import ChatTranslator
from quintet.config import Project
from quintet.data.examples import Example
from quintet.data.fitting import Fitter
from quintet.data.loading import read_examples
from quintet.data.splits import data_digest, load_split
from quintet.evaluation.metrics import exact_match, token_f1
from quintet.evaluation.preferences import Preferences, measure_preferences
from quintet.expert_model import load_expert_model, quietly, takes_padding
from quintet.registry.experts import Expert, find_expert, write_json

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
    preferences: Preferences | None = None

    def as_scores(self) -> dict[str, tuple[float, float]]:
        """Return metric → (base, expert), as model cards show them."""
        return {
            "token_f1": (self.base.f1, self.tuned.f1),
            "exact_match": (self.base.exact_match, self.tuned.exact_match),
        }


def evaluate(project: Project, expert: Expert, progress: Progress | None = None) -> Evaluation:
    """Let base and expert answer the department's held-out questions, and keep the result beside the expert."""
    expert.check_files()
    source = base_model.locate(project.config.base_model, project.root)
    expert.check_base(base_model.base_digest(source), project.config.base_model)
    translator = ChatTranslator(base_model.load_tokenizer(str(expert.folder)))
    base = base_model.load_model(source, base_model.pick_device())
    model = load_expert_model(expert.folder, base)
    examples = _held_out(project, expert)
    settings = project.config.evaluation
    done = 0

    def report(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, 2 * len(examples))

    before, after = (
        _answer_all(one, translator, examples, settings.max_tokens, settings.batch_size, report)
        for one in (base, model)
    )
    preferences = _measure_pairs(project, expert, model, base, translator)
    result = _score(expert, _identity(project, expert, examples), examples, before, after, preferences)
    write_json(expert.folder.parent / EVALUATION_FILE, asdict(result))
    return result


def _measure_pairs(
    project: Project, expert: Expert, model: Any, base: Any, translator: ChatTranslator
) -> Preferences | None:
    """Return what an expert of preferences makes of those held out, beside the expert, or the base, it came from."""
    if not expert.held_out_pairs.is_file():
        return None
    pairs = read_examples(expert.held_out_pairs)
    parent = None if expert.parent is None else find_expert(project, expert.parent)
    start = base if parent is None else load_expert_model(parent.folder, base)
    return measure_preferences(model, start, pairs, translator)


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
            preferences=None if stored["preferences"] is None else Preferences(**stored["preferences"]),
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
    if settings.eval_data is None or _trained_digest(project, expert) != expert.data_digest:
        return read_examples(expert.held_out)
    source = base_model.locate(project.config.base_model, project.root)
    translator = ChatTranslator(base_model.load_tokenizer(str(expert.folder)))
    fitter = Fitter(translator, base_model.context_length(source), settings.too_long)
    return fitter.fit_all(load_split(project, expert.department).held_out).examples


def _trained_digest(project: Project, expert: Expert) -> str:
    return data_digest(project, expert.department, with_preferences=expert.objective == "dpo")


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
    """Return the greedy continuation of each prompt, without its end, as one left-padded batch.

    Where the model does not take padding, one by one.
    """
    if not takes_padding(model) and len({len(prompt) for prompt in prompts}) > 1:
        return [greedy(model, [prompt], end_ids, max_tokens)[0] for prompt in prompts]
    with quietly():
        return _greedy_batch(model, prompts, end_ids, max_tokens)


def _greedy_batch(
    model: Any, prompts: Sequence[Sequence[int]], end_ids: Sequence[int], max_tokens: int
) -> list[list[int]]:
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


def _score(
    expert: Expert,
    identity: str,
    examples: Sequence[Example],
    base: list[str],
    tuned: list[str],
    preferences: Preferences | None,
) -> Evaluation:
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
        preferences,
    )


def _mean(values: Iterable[float]) -> float:
    return round(float(mean(values)), 4)
