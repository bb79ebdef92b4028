"""Config and data → what a run would do. Validates all of it; trains nothing and loads no weights."""

import json
from dataclasses import dataclass, field, replace
from hashlib import sha256

from datasets import Dataset

from quintet.chat import ChatTranslator
from quintet.config import Project, TrainingConfig
from quintet.data.examples import Example
from quintet.data.fitting import Fitted, Fitter
from quintet.data.loading import load_examples
from quintet.data.splits import Split, data_digest, load_split, refuse_leaks, split_by_group
from quintet.errors import ConfigError
from quintet.models import base_model
from quintet.registry.experts import Expert, find_expert
from quintet.training.methods import DPO, check_method, trained_by
from quintet.training.objectives import Objective, rows_for
from quintet.training.trackers import check_trackers

SFT_FIRST, FROM_BASE = "sft", "base"
"""Where DPO may start, besides an expert by its name."""


@dataclass(frozen=True)
class Plan:
    """What a run would do: its settings, its data, where it starts, and the fingerprint of all that shapes the result.

    `start` is the expert that is trained further, or the plan of the run that must make it first. `held_out` are the
    questions that are measured later, `held_out_pairs` the preferences, `validation_rows` those of the objective.
    """

    department: str
    training: TrainingConfig
    objective: Objective
    source: str
    rows: Dataset
    translator: ChatTranslator
    held_out: list[Example]
    data_digest: str
    fingerprint: str
    notes: tuple[str, ...]
    start: "Expert | Plan | None" = None
    held_out_pairs: list[Example] = field(default_factory=list)
    validation_rows: Fitted = field(default_factory=Fitted)

    @property
    def validation(self) -> Dataset:
        """The held-out rows as the trainer takes them, for the loss that early stopping watches."""
        return rows_for(self.objective, self.validation_rows, self.translator)


def plan_run(project: Project, department: str, method: str | None = None) -> Plan:
    """Validate a department's config and data, so that what is wrong stops before anything is trained.

    `method` overrides the config's.
    """
    training = project.training(department)
    if method is not None:
        training = training.model_copy(update={"method": method})
    check_method(training)
    check_trackers(training)
    if training.method == DPO:
        settings = project.department(department)
        pairs = _load_pairs(project, department, training)
        has_answers = settings.preferences is not None
        start: Expert | Plan | None
        if training.dpo.start_from == SFT_FIRST and has_answers:
            start = _plan_sft(project, department, training.model_copy(update={"method": trained_by(training)}))
        else:
            start = _start(project, department, training.dpo.start_from, training)
        digest = data_digest(project, department, with_preferences=True)
        if not has_answers:
            return _plan(project, department, training, "dpo", pairs, digest, start)
        questions = start.held_out if isinstance(start, Plan) else load_split(project, department).held_out
        # What is measured with may not be learnt as a preference either.
        refuse_leaks(Split(pairs.train, questions))
        return replace(_plan(project, department, training, "dpo", pairs, digest, start), held_out=questions)
    return _plan_sft(project, department, training)


def _plan_sft(project: Project, department: str, training: TrainingConfig) -> Plan:
    split = load_split(project, department)
    start = _start(project, department, training.start_from, training)
    return _plan(project, department, training, "sft", split, data_digest(project, department), start)


def _load_pairs(project: Project, department: str, training: TrainingConfig) -> Split:
    """Return the preferences, those to learn and those to measure: groups are held out as they are of other rows."""
    settings = project.department(department)
    path = project.path(settings.preferences) if settings.preferences else project.data(department)
    split = split_by_group(load_examples(path, settings.format), settings.eval_fraction, training.seed)
    if not split.train or not split.held_out:
        raise ConfigError(f"{path}: too few preferences to hold out {settings.eval_fraction:.0%} of them; add some")
    return split


def _start(project: Project, department: str, name: str | None, training: TrainingConfig) -> Expert | None:
    """Return the expert to start from, if any; raise ConfigError when it is not of the kind that is trained."""
    if name is None or name in (FROM_BASE, SFT_FIRST):
        return None
    expert = find_expert(project, name)
    source = base_model.locate(project.config.base_model, project.root)
    expert.check_base(base_model.base_digest(source), project.config.base_model)
    if expert.trained != trained_by(training):
        raise ConfigError(
            f"departments.{department}: start_from: {expert.name} was trained by {expert.trained!r}, and "
            f"{trained_by(training)!r} is to be trained; name an expert of the same kind"
        )
    return expert


def _plan(
    project: Project,
    department: str,
    training: TrainingConfig,
    objective: Objective,
    split: Split,
    digest: str,
    start: "Expert | Plan | None",
) -> Plan:
    source = base_model.locate(project.config.base_model, project.root)
    translator = ChatTranslator(base_model.load_tokenizer(source))
    fitter = Fitter(translator, base_model.context_length(source), project.department(department).too_long)
    # What is measured later must fit the context as well as what is trained.
    held_out, rows = fitter.fit_all(split.held_out), fitter.fit_all(split.train)
    identity = {
        "base": base_model.base_digest(source),
        # Who is told of a run's progress changes nothing of what comes of it.
        "training": training.model_dump(mode="json", exclude={"trackers", "logging_steps"}),
        "objective": objective,
        "data": digest,
        "start": None if start is None else start.fingerprint,
    }
    return Plan(
        department=department,
        training=training,
        objective=objective,
        source=source,
        rows=rows_for(objective, rows, translator),
        translator=translator,
        held_out=held_out.examples,
        held_out_pairs=held_out.examples if objective == "dpo" else [],
        validation_rows=held_out,
        data_digest=digest,
        fingerprint=sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest(),
        notes=(*split.notes, *rows.notes, *(f"held out: {note}" for note in held_out.notes)),
        start=start,
    )
