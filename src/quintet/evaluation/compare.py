"""Base, expert and live release answer the same held-out questions, greedily; their scores stand side by side."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from statistics import fmean
from typing import Any

from pydantic import TypeAdapter, ValidationError

from quintet.chat import ChatTranslator
from quintet.config import Project
from quintet.data.examples import Example
from quintet.data.fitting import Fitter
from quintet.data.loading import read_examples
from quintet.data.splits import data_digest, load_split
from quintet.engine.interface import Adapter
from quintet.engine.kernels.prepacked_linear import pack
from quintet.engine.precision import served_precision
from quintet.errors import DataError, MissingFilesError
from quintet.evaluation.answering import Continuation, answer_all, served_answers
from quintet.evaluation.bootstrap import outcomes, paired_interval
from quintet.evaluation.general import encode_general, general_examples
from quintet.evaluation.labels import is_label, score_labels
from quintet.evaluation.likelihood import Losses, answer_losses
from quintet.evaluation.metrics import answer_metrics, chrf, corpus_bleu, exact_match, rouge_l, token_f1
from quintet.evaluation.preferences import measure_preferences
from quintet.evaluation.results import (
    BASE,
    EXPERT,
    LIVE,
    AnswerText,
    Comparison,
    Evaluation,
    Item,
    LabelScores,
    Preferences,
)
from quintet.evaluation.specificity import specificity
from quintet.files import write_text
from quintet.models import base_model
from quintet.models.peft_model import load_expert_model, shared_view
from quintet.registry.experts import SETTINGS_FILE, Expert, find_expert

EVALUATION_FILE = "evaluation.json"
FORMAT = 5
"""Of the file: what was measured by other rules is measured again."""
SEED = 20
"""Of the bootstrap."""
DIGITS = 4
SCORES: dict[str, Callable[[str, str], float]] = {
    "f1": token_f1,
    "exact_match": exact_match,
    "rouge_l": rouge_l,
    "chrf": chrf,
    "accuracy": is_label,
}
"""What the gate may compare by."""
Progress = Callable[[int, int], None]
"""Called with the answers made and the answers wanted."""
_STORED = TypeAdapter(Evaluation)


@dataclass(frozen=True)
class Measured:
    """What one contestant made of the items, and of the general questions."""

    answers: list[Continuation]
    losses: Losses
    general_perplexity: float


def evaluate(
    project: Project, expert: Expert, progress: Progress | None = None, live: Expert | None = None
) -> Evaluation:
    """Let the contestants answer the department's held-out questions, and keep the result beside the expert.

    `live` is the expert that is released now; when it is another than this one, both are compared.
    """
    source = base_model.locate(project.config.base_model, project.root)
    experts = {EXPERT: expert} if live is None or live.name == expert.name else {EXPERT: expert, LIVE: live}
    if not (expert.folder.parent / SETTINGS_FILE).is_file():
        fix = "its run lies on another machine; evaluate it there, or copy the run's folder from there"
        raise MissingFilesError(expert.name, expert.folder.parent / SETTINGS_FILE, fix)
    for one in experts.values():
        one.check_files()
        one.check_base(base_model.base_digest(source), project.config.base_model)
    served = served_precision(project)
    translator = ChatTranslator(base_model.load_tokenizer(str(expert.folder)))
    examples = held_out_examples(project, expert)
    report = counter(progress, (1 + len(experts)) * len(examples))
    # First and by itself, so that the base is in memory once.
    adapters = {key: Adapter(one.digest, one.folder) for key, one in experts.items()}
    prompts = [translator.encode_prompt(example.prompt) for example in examples]
    most = project.config.evaluation.max_tokens
    answers = served_answers(source, served, {BASE: None, **adapters}, prompts, translator.end_ids, most, report)
    base = base_model.load_model(source, base_model.pick_device(), served.dtype)
    measured = {}
    for key in (BASE, *experts):
        model = shared_view(base) if key == BASE else load_expert_model(experts[key].folder, base)
        if served.is_int8:
            pack(model, "int8")
        measured[key] = measure_model(project, model, translator, examples, report, answers.get(key))
    if not expert.held_out_pairs.is_file():
        preferences = None
    else:
        pairs = read_examples(expert.held_out_pairs)
        parent = None if expert.parent is None else find_expert(project, expert.parent)
        start = base if parent is None else load_expert_model(parent.folder, base)
        preferences = measure_preferences(load_expert_model(expert.folder, base), start, pairs, translator)
    result = _result(project, experts, translator, examples, measured, preferences)
    write_evaluation(expert, result)
    return result


def write_evaluation(expert: Expert, evaluation: Evaluation) -> None:
    """Keep an evaluation beside the expert."""
    write_text(expert.folder.parent / EVALUATION_FILE, _STORED.dump_json(evaluation, indent=1).decode() + "\n")


def read_evaluation(project: Project, expert: Expert) -> Evaluation | None:
    """Return the stored evaluation of exactly these weights, questions and settings, if there is one."""
    try:
        found = _STORED.validate_json((expert.folder.parent / EVALUATION_FILE).read_bytes())
    except (OSError, ValidationError):
        return None  # none yet, or not one of ours: measured again
    return found if found.identity == _identity(project, expert, held_out_examples(project, expert)) else None


def held_out_examples(project: Project, expert: Expert) -> list[Example]:
    """Return questions that the expert's training did not see.

    Those kept with the run; or those of the department's held-out file as it is now, when the trained rows are still
    what they were, so that it can be told that none of them is among these.
    """
    settings = project.department(expert.department)
    if (
        settings.eval_data is None
        or data_digest(project, expert.department, with_preferences=expert.objective == "dpo") != expert.data_digest
    ):
        return read_examples(expert.held_out)
    source = base_model.locate(project.config.base_model, project.root)
    translator = ChatTranslator(base_model.load_tokenizer(str(expert.folder)))
    fitter = Fitter(translator, base_model.context_length(source), settings.too_long)
    return fitter.fit_all(load_split(project, expert.department).held_out).examples


def card_scores(evaluation: Evaluation) -> dict[str, tuple[float, float]]:
    """Return metric → (base, expert), as model cards show them."""
    base, expert = evaluation.scores[BASE], evaluation.scores[EXPERT]
    return {metric: (base[metric], value) for metric, value in expert.items()}


def f1_of_each(evaluation: Evaluation, key: str = EXPERT) -> list[float]:
    """Return a contestant's token F1 on each item."""
    return [item.answers[key].metrics["f1"] for item in evaluation.items]


def _metric(project: Project, expert: Expert) -> str:
    return project.gate(expert.department).metric


def counter(progress: Progress | None, total: int) -> Callable[[int], None]:
    """Return what adds up the answers made and tells `progress` of the sum."""
    done = 0

    def report(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, total)

    return report


def measure_model(
    project: Project,
    model: Any,
    translator: ChatTranslator,
    examples: Sequence[Example],
    report: Callable[[int], None],
    answers: list[Continuation] | None = None,
) -> Measured:
    """Weigh the references by one model; unless its `answers` are given, let it answer, `report` told of each batch."""
    settings = project.config.evaluation
    if answers is None:
        prompts = [translator.encode_prompt(example.prompt) for example in examples]
        answers = answer_all(model, prompts, translator.end_ids, settings.max_tokens, settings.batch_size, report)
    references = translator.encode_examples([example.messages for example in examples])
    general = answer_losses(model, encode_general(project, translator))
    return Measured(answers, answer_losses(model, references), general.perplexity)


def _identity(project: Project, expert: Expert, examples: Sequence[Example]) -> str:
    """Return the digest of all that an evaluation depends on, but for the release that is live meanwhile."""
    asked = [
        [[(m.role, m.content) for m in example.messages] for example in questions]
        for questions in (examples, general_examples(project))
    ]
    parts = [
        FORMAT,
        expert.digest,
        expert.base_digest,
        base_model.base_digest(base_model.locate(project.config.base_model, project.root)),
        served_precision(project).precision,
        _metric(project, expert),
        asked,
        project.config.evaluation.max_tokens,
        SEED,
    ]
    return sha256(TypeAdapter(list[Any]).dump_json(parts)).hexdigest()


def _result(
    project: Project,
    experts: Mapping[str, Expert],
    translator: ChatTranslator,
    examples: Sequence[Example],
    measured: Mapping[str, Measured],
    preferences: Preferences | None,
) -> Evaluation:
    expert = experts[EXPERT]
    items = tuple(_items(translator, examples, measured))
    if any(len(example.labels) != 1 for example in examples):
        known = []
    else:
        rows = [*examples, *load_split(project, expert.department).train]
        known = sorted({value for row in rows for _, value in row.labels})
    labels = {key: _label_scores(key, known, items) for key in measured if known}
    bleu = {key: corpus_bleu(_texts(items, key), [item.reference for item in items]) for key in measured}
    return Evaluation(
        department=expert.department,
        method=expert.method,
        base_model=expert.base_model,
        identity=_identity(project, expert, examples),
        precision=served_precision(project).precision,
        names={BASE: BASE, **{key: one.name for key, one in experts.items()}},
        scores={key: _scores(key, items, bleu[key][0], one, labels) for key, one in measured.items()},
        comparisons={key: _compare(items, key) for key in measured if key != EXPERT},
        items=items,
        signature=bleu[EXPERT][1],
        specificity=specificity(
            _texts(items, EXPERT), [item.reference for item in items], SCORES[_metric(project, expert)], seed=SEED
        ),
        labels=labels,
        preferences=preferences,
    )


def _items(translator: ChatTranslator, examples: Sequence[Example], measured: Mapping[str, Measured]) -> Iterator[Item]:
    for number, example in enumerate(examples):
        answers = {}
        for key, one in measured.items():
            said = one.answers[number]
            text = translator.decode(said.ids)
            loss = one.losses.nats[number] / one.losses.tokens[number]
            metrics = {name: round(v, DIGITS) for name, v in answer_metrics(text, example.answer).items()}
            if example.labels:
                metrics["accuracy"] = is_label(text, example.answer)
            answers[key] = AnswerText(text, len(said.ids), said.ended, {**metrics, "loss": round(loss, DIGITS)})
        yield Item(example.question, example.answer, answers)


def _texts(items: Sequence[Item], key: str) -> list[str]:
    return [item.answers[key].text for item in items]


def _label_scores(key: str, labels: Sequence[str], items: Sequence[Item]) -> LabelScores:
    try:
        return score_labels(_texts(items, key), [item.reference for item in items], labels)
    except ValueError as error:
        raise DataError([f"the labels cannot be told apart in an answer: {error}"]) from None


def _scores(
    key: str, items: Sequence[Item], bleu: float, measured: Measured, labels: Mapping[str, LabelScores]
) -> dict[str, float]:
    """Return the contestant's metrics over all items: means, but for BLEU, perplexities and what labels add."""
    said = [item.answers[key] for item in items]
    scores = {name: fmean(one.metrics[name] for one in said) for name in said[0].metrics}
    scores |= {
        "bleu": bleu,
        "perplexity": measured.losses.perplexity,
        "general_perplexity": measured.general_perplexity,
        "tokens": fmean(one.tokens for one in said),
        "ended": fmean(one.ended for one in said),
    }
    if key in labels:
        scores |= {"macro_f1": labels[key].macro_f1, "no_label": labels[key].no_label}
    return {name: round(value, DIGITS) for name, value in scores.items()}


def _compare(items: Sequence[Item], other: str) -> Comparison:
    """Return the expert against one other: each metric's mean difference over the same items, and its interval."""

    def values(key: str, metric: str) -> list[float]:
        return [item.answers[key].metrics[metric] for item in items]

    names = items[0].answers[EXPERT].metrics
    intervals = {name: paired_interval(values(EXPERT, name), values(other, name), seed=SEED) for name in names}
    return Comparison(intervals, outcomes(values(EXPERT, "f1"), values(other, "f1")))
