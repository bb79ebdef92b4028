"""One training run: checked data in, an expert out. TRL's trainer does the work; nothing here loops over batches."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
import yaml
from datasets import Dataset
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from trl import SFTConfig, SFTTrainer

from quintet import base_model
from quintet.chat import IGNORED, ChatTranslator
from quintet.config import Project, TrainingConfig
from quintet.data.examples import Example
from quintet.data.fitting import Fitter
from quintet.data.loading import write_examples
from quintet.data.splits import data_digest, load_split
from quintet.errors import TrainingError
from quintet.registry.experts import (
    HELD_OUT_FILE,
    WEIGHTS,
    Expert,
    digest_files,
    new_run,
    newest_expert,
    publish,
)
from quintet.training.methods import peft_config
from quintet.training.objectives import sft_dataset

Progress = Callable[[int, int, float | None], None]
"""Called with the step, the number of steps, and the last loss."""


@dataclass(frozen=True)
class Plan:
    """What a run would do: its settings, its data, and the fingerprint of everything that shapes the result."""

    department: str
    training: TrainingConfig
    source: str
    rows: Dataset
    translator: ChatTranslator
    held_out: list[Example]
    data_digest: str
    fingerprint: str
    notes: tuple[str, ...]


def plan_run(project: Project, department: str) -> Plan:
    """Validate the department's config and data, so that a broken or too long row stops before anything is trained."""
    training = project.training(department)
    source = base_model.locate(project.config.base_model, project.root)
    split = load_split(project, department)
    data = data_digest(project, department)
    identity = {
        "base": base_model.base_digest(source),
        "training": training.model_dump(mode="json"),
        "data": data,
    }
    fingerprint = sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    translator = ChatTranslator(base_model.load_tokenizer(source))
    fitter = Fitter(translator, base_model.context_length(source), project.department(department).too_long)
    # What is measured later must fit the context as well as what is trained.
    held_out, rows = fitter.fit_all(split.held_out), fitter.fit_all(split.train)
    dataset = sft_dataset(rows.examples, translator)
    notes = (*split.notes, *rows.notes, *(f"held out: {note}" for note in held_out.notes))
    return Plan(department, training, source, dataset, translator, held_out.examples, data, fingerprint, notes)


def find_trained(project: Project, plan: Plan) -> Expert | None:
    """Return the newest expert when it came from exactly this plan and its files are whole."""
    expert = newest_expert(project, plan.department)
    if expert is None or expert.fingerprint != plan.fingerprint:
        return None
    files = (expert.folder / WEIGHTS, expert.folder / "adapter_config.json")
    is_whole = all(file.is_file() for file in files) and digest_files(*files) == expert.digest
    return expert if is_whole else None


def train(project: Project, plan: Plan, progress: Progress | None = None) -> Expert:
    """Train the planned expert and publish it as the department's next version."""
    device = base_model.pick_device()
    model = _load_for_training(plan.source, device, max(map(len, plan.rows["input_ids"])))
    run = new_run(project, plan.department)
    _write_settings(run, project, plan)
    write_examples(run / HELD_OUT_FILE, plan.held_out)
    began = time.monotonic()
    trainer = (_CpuTrainer if device == "cpu" else SFTTrainer)(
        model=model,
        args=_arguments(plan.training, run, device),
        train_dataset=plan.rows,
        processing_class=plan.translator.tokenizer,
        peft_config=peft_config(plan.training),
        callbacks=[_Reporter(progress, run / "metrics.jsonl")],
    )
    # The caller's progress bar shows what this would print.
    trainer.remove_callback(PrinterCallback)
    try:
        trainer.train()
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            f"the GPU's memory does not hold a batch of {plan.training.batch_size} rows; lower training.batch_size and "
            "raise training.gradient_accumulation by as much"
        ) from error
    return _publish(project, plan, run, trainer, time.monotonic() - began)


def _load_for_training(source: str, device: str, longest: int) -> PreTrainedModel:
    # The frozen base needs no float32 copy; PEFT keeps the adapter's own weights in float32.
    dtype = torch.bfloat16 if _has_fast_bfloat16(device) else torch.float32
    # On rows this short, plain matrix products beat torch's fused attention on a CPU: 1.4 times, measured on nano.
    attention = "eager" if device == "cpu" and longest <= 512 else None
    return base_model.load_model(source, device, dtype, attention)


def _arguments(training: TrainingConfig, run: Path, device: str) -> SFTConfig:
    return SFTConfig(
        output_dir=str(run / "checkpoints"),
        num_train_epochs=training.epochs,
        per_device_train_batch_size=training.batch_size,
        gradient_accumulation_steps=training.gradient_accumulation,
        learning_rate=training.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=training.warmup,
        weight_decay=training.weight_decay,
        max_grad_norm=1.0,
        # Short runs have few steps to average over: 0.95 forgets old gradients in 20 of them, 0.999 in 1,000.
        adam_beta2=0.95,
        seed=training.seed,
        data_seed=training.seed,
        bf16=_has_fast_bfloat16(device),
        use_cpu=device == "cpu",
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        gradient_checkpointing=device != "cpu",
        dataloader_pin_memory=device != "cpu",
        logging_steps=10,
        logging_nan_inf_filter=False,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )


def _has_fast_bfloat16(device: str) -> bool:
    if device == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return bool(torch.cuda.is_bf16_supported(including_emulation=False))


class _CpuTrainer(SFTTrainer):
    """On a CPU, applies the model's head to the trained positions alone: no other logits are ever used.

    TRL's chunked head, made to save GPU memory, takes half of a CPU's step.
    """

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return the mean cross-entropy of the trained tokens."""
        inputs = dict(inputs)
        targets = inputs.pop("labels")[:, 1:]
        trained = targets != IGNORED
        head = model.get_output_embeddings()
        hook = head.register_forward_pre_hook(lambda _, hidden: (hidden[0][:, :-1][trained],))
        try:
            outputs = model(**inputs)
        finally:
            hook.remove()
        total = torch.nn.functional.cross_entropy(outputs.logits.float(), targets[trained], reduction="sum")
        loss = total / (trained.sum() if num_items_in_batch is None else num_items_in_batch)
        return (loss, outputs) if return_outputs else loss


class _Reporter(TrainerCallback):
    """Writes metrics.jsonl and tells the caller of each step."""

    def __init__(self, progress: Progress | None, metrics: Path) -> None:
        self._progress = progress
        self._metrics = metrics
        self._loss: float | None = None

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Append what was logged."""
        logs = kwargs["logs"]
        self._loss = logs.get("loss", self._loss)
        with self._metrics.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"step": state.global_step, **logs}) + "\n")

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Report the step."""
        if self._progress is not None:
            self._progress(state.global_step, state.max_steps, self._loss)


def _write_settings(run: Path, project: Project, plan: Plan) -> None:
    settings = {
        "department": plan.department,
        "base_model": project.config.base_model,
        "rows": {"train": len(plan.rows), "held_out": len(plan.held_out)},
        "training": plan.training.model_dump(mode="json"),
    }
    (run / "config.yaml").write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")


def _publish(project: Project, plan: Plan, run: Path, trainer: SFTTrainer, seconds: float) -> Expert:
    staged = run / "expert.part"
    model: Any = trainer.model
    if not all(torch.isfinite(p).all() for p in model.parameters() if p.requires_grad):
        raise TrainingError(
            f"the weights of {plan.department} are not finite any more; lower training.learning_rate "
            f"(it is {plan.training.learning_rate:g}) and train again"
        )
    model.save_pretrained(staged)
    _settle_adapter_config(staged / "adapter_config.json", project.config.base_model)
    plan.translator.tokenizer.save_pretrained(staged)
    return publish(
        staged,
        Expert(
            department=plan.department,
            version=int(run.name),
            method=plan.training.method,
            base_model=project.config.base_model,
            base_digest=base_model.base_digest(plan.source),
            data_digest=plan.data_digest,
            fingerprint=plan.fingerprint,
            digest=digest_files(staged / WEIGHTS, staged / "adapter_config.json"),
            seconds=round(seconds, 1),
            examples=len(plan.rows),
            folder=run / "expert",
        ),
    )


def _settle_adapter_config(path: Path, base: str) -> None:
    """Make PEFT's config depend on what was trained alone: it lists modules in random order, and names our folder."""
    settings = json.loads(path.read_text("utf-8"))
    settings["base_model_name_or_path"] = base
    if isinstance(settings.get("target_modules"), list):
        settings["target_modules"].sort()
    path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")
