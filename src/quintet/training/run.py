"""One training run: a plan in, an expert out. TRL's trainers do the work; nothing here loops over batches."""

import errno
import gc
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml
from peft import PeftModel
from safetensors import SafetensorError
from transformers import AutoConfig, EarlyStoppingCallback, PreTrainedModel, PrinterCallback
from trl import SFTTrainer

from quintet.config import Project
from quintet.data.loading import write_examples
from quintet.errors import TrainingError
from quintet.files import digest_files, write_json
from quintet.models import base_model
from quintet.models.adapter_files import ADAPTER_CONFIG
from quintet.models.peft_model import quietly, settle_adapter_config
from quintet.registry.experts import (
    HELD_OUT_FILE,
    HELD_OUT_PAIRS_FILE,
    SETTINGS_FILE,
    Expert,
    list_experts,
    new_run,
    publish,
)
from quintet.registry.losses import METRICS_FILE
from quintet.registry.run_files import RUN_FILE, write_card
from quintet.training.arguments import has_fast_bfloat16, trainer_arguments
from quintet.training.callbacks import Progress, RankAllocator, Reporter
from quintet.training.memory import peak_bytes, reset_peak
from quintet.training.methods import FULL, KTO, is_prompt_learning, learning_rate, peft_config, quantization, trained_by
from quintet.training.preparation import Plan
from quintet.training.ranks import agree, is_sharded
from quintet.training.records import draw_losses, write_environment
from quintet.training.trackers import close_trackers, trackers
from quintet.training.trainers import CpuSftTrainer, PairTrainer, UnpairedTrainer


def find_trained(project: Project, plan: Plan, *, newest: bool = True) -> Expert | None:
    """Return the expert that came from exactly this plan, when its files are whole.

    The newest of the plan's method alone, which is what is released by default; or any, to start from or compare with.
    """
    found = [e for e in reversed(list_experts(project, plan.department)) if e.method == plan.training.method]
    return next((e for e in found[: 1 if newest else None] if e.fingerprint == plan.fingerprint and e.is_whole), None)


def find_stopped(project: Project, plan: Plan) -> Path | None:
    """Return the last whole checkpoint of a run of exactly this plan that was stopped before its end."""
    runs = [f for f in (project.runs / plan.department).glob(f"*/{RUN_FILE}") if f.parent.name.isdigit()]
    for file in sorted(runs, key=lambda file: int(file.parent.name), reverse=True):
        if (file.parent / "expert").exists() or _read_json(file).get("fingerprint") != plan.fingerprint:
            continue
        # The state is written last: a checkpoint that has it is whole.
        states = (file.parent / "checkpoints").glob("checkpoint-*/trainer_state.json")
        whole = [state.parent for state in states if "global_step" in _read_json(state)]
        if whole:
            return max(whole, key=lambda folder: int(folder.name.rpartition("-")[2]))
    return None


def _read_json(file: Path) -> dict[str, Any]:
    """Return what the file holds, or nothing when a kill cut it short."""
    try:
        return dict(json.loads(file.read_text("utf-8")))
    except (OSError, ValueError):
        return {}


def train(
    project: Project,
    plan: Plan,
    progress: Progress | None = None,
    *,
    start: Expert | None = None,
    resume_from: Path | None = None,
) -> Expert:
    """Carry the plan out and publish what came of it as the department's next version.

    `start` is the expert that the plan starts from; `resume_from` a checkpoint of the same plan, whose run goes on.
    """
    run = agree(lambda: _begin(project, plan)) if resume_from is None else resume_from.parent.parent
    with _explained(plan, run):
        expert = _make(project, plan, run, progress, start, resume_from)
    # A trainer refers to itself: unless told so, all of it stays in memory while the next department is trained.
    gc.collect()
    return expert


def _make(
    project: Project, plan: Plan, run: Path, progress: Progress | None, start: Expert | None, resume_from: Path | None
) -> Expert:
    model, weights, taken = _carry_out(plan, run, progress, start, resume_from)

    def publish_and_clear_up() -> Expert:
        expert = _publish(project, plan, run, model, weights, start, taken)
        draw_losses(run)
        write_card(project, expert)
        shutil.rmtree(run / "checkpoints", ignore_errors=True)
        return expert

    return agree(publish_and_clear_up)


def _carry_out(
    plan: Plan, run: Path, progress: Progress | None, start: Expert | None, resume_from: Path | None
) -> tuple[Any, dict[str, torch.Tensor] | None, tuple[float, int]]:
    """Return the trained model, its weights where it does not hold all itself, and the seconds and bytes it took."""
    device = base_model.pick_device()
    reset_peak(device)
    with quietly():
        trainer = build_trainer(plan, run, device, start, progress)
    began = time.monotonic()
    trainer.train(resume_from_checkpoint=None if resume_from is None else str(resume_from))
    taken = (time.monotonic() - began, peak_bytes(device))
    close_trackers(plan.training)
    weights = trainer.accelerator.get_state_dict(trainer.model) if is_sharded() else None
    return trainer.accelerator.unwrap_model(trainer.model), weights, taken


def _begin(project: Project, plan: Plan) -> Path:
    """Make the run's folder and write what the run is."""
    run = new_run(project, plan.department)
    settings = {
        "department": plan.department,
        "base_model": project.config.base_model,
        "objective": plan.objective,
        "rows": {"train": len(plan.rows), "held_out": len(plan.held_out)},
        "training": plan.training.model_dump(mode="json"),
    }
    (run / SETTINGS_FILE).write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    write_examples(run / HELD_OUT_FILE, plan.held_out)
    if plan.held_out_pairs:
        write_examples(run / HELD_OUT_PAIRS_FILE, plan.held_out_pairs)
    write_json(run / RUN_FILE, {"fingerprint": plan.fingerprint, "end_ids": plan.translator.end_ids})
    write_environment(run, project)
    return run


def build_trainer(
    plan: Plan, run: Path, device: str, start: Expert | None = None, progress: Progress | None = None
) -> Any:
    """Return the trainer of the plan's objective over the model of its method, ready to train."""
    patience = plan.training.patience
    stopping = [EarlyStoppingCallback(patience)] if patience else []
    # A frozen base needs no float32 copy: PEFT keeps the
    # adapter's own weights in float32, of which TRL makes bfloat16 over a quantised base. Where all weights
    # are trained, they are float32 and computed with in bfloat16 where that is fast, so that small steps are
    # not lost
    is_full = trained_by(plan.training) == FULL
    dtype = torch.bfloat16 if has_fast_bfloat16(device) and not is_full else torch.float32
    # On rows this short, plain matrix products beat torch's fused attention on a CPU: 1.4 times, measured on nano.
    attention = "eager" if device == "cpu" and _longest(plan) <= 512 else None
    source = str(start.folder) if start is not None and not start.is_adapter else plan.source
    # Weights that are shared out later must not all go to each device first.
    place = "cpu" if is_sharded() else device
    model = base_model.load_model(source, place, dtype, attention, quantization(plan.training, dtype))
    trainer = _trainer_class(plan, device)(
        model=_with_adapter(model, start) if start is not None and start.is_adapter else model,
        args=trainer_arguments(plan.training, run, device),
        train_dataset=plan.rows,
        eval_dataset=plan.validation if patience else None,
        processing_class=plan.translator.tokenizer,
        # An expert that is trained further has its adapter already.
        peft_config=peft_config(plan.training, AutoConfig.from_pretrained(plan.source)) if start is None else None,
        callbacks=[Reporter(progress, run / METRICS_FILE), RankAllocator(), *stopping, *trackers(plan.training, run)],
    )
    # The caller's progress bar shows what this would print.
    trainer.remove_callback(PrinterCallback)
    if not has_fast_bfloat16(device):
        for weight in trainer.model.parameters():
            if weight.requires_grad:
                weight.data = weight.data.float()
    return trainer


def _trainer_class(plan: Plan, device: str) -> Any:
    if plan.objective == "dpo":
        return UnpairedTrainer if plan.training.dpo.loss == KTO else PairTrainer
    return CpuSftTrainer if device == "cpu" else SFTTrainer


def _with_adapter(model: PreTrainedModel, start: Expert) -> PeftModel:
    """Put the adapter of the expert on the model, to be trained further."""
    if not is_prompt_learning(start.trained):
        tuned = PeftModel.from_pretrained(model, str(start.folder), is_trainable=True)
        # PEFT looks for the base's config whenever it saves: here it lies, and no hub is asked for it.
        tuned.peft_config["default"].base_model_name_or_path = model.name_or_path
        return tuned
    # PEFT loads virtual tokens for serving alone: what made them (a reparameterisation) is not kept, they are.
    tuned = PeftModel.from_pretrained(model, str(start.folder))
    config: Any = tuned.peft_config["default"]
    config.base_model_name_or_path = model.name_or_path
    config.inference_mode = False
    if hasattr(config, "prefix_projection"):
        config.prefix_projection = False
    tuned.prompt_encoder.requires_grad_(True)
    return tuned


def _longest(plan: Plan) -> int:
    if plan.objective == "sft":
        return max(map(len, plan.rows["input_ids"]))
    rows = zip(plan.rows["prompt_ids"], plan.rows["chosen_ids"], plan.rows["rejected_ids"], strict=True)
    return max(len(prompt) + max(len(chosen), len(rejected)) for prompt, chosen, rejected in rows)


@contextmanager
def _explained(plan: Plan, run: Path) -> Iterator[None]:
    """Turn what a machine runs out of into an error that says what to do."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            f"the GPU's memory does not hold a batch of {plan.training.batch_size} rows; lower training.batch_size and "
            "raise training.gradient_accumulation by as much"
        ) from error
    except ValueError as error:
        raise TrainingError(f"this run cannot be made: {error}") from error
    except (OSError, RuntimeError, SafetensorError) as error:
        if not _is_full_disk(error):
            raise
        raise TrainingError(
            f"{run} cannot be written any more: no space is left; the last whole checkpoint is kept; free some, and "
            f"go on with: quintet train {plan.department} --resume"
        ) from error


def _is_full_disk(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return True
    # torch and safetensors tell of it in words of their own.
    signs = ("No space left", "File too large", "PytorchStreamWriter", "inline_container")
    return any(sign in str(error) for sign in signs)


def _publish(
    project: Project,
    plan: Plan,
    run: Path,
    model: Any,
    weights: dict[str, torch.Tensor] | None,
    start: Expert | None,
    taken: tuple[float, int],
) -> Expert:
    staged = run / "expert.part"
    if not all(torch.isfinite(p).all() for p in model.parameters() if p.requires_grad):
        raise TrainingError(
            f"the weights of {plan.department} are not finite any more; lower training.learning_rate "
            f"(it is {learning_rate(plan.training):g}) and train again"
        )
    files = _save(model, weights, staged, project.config.base_model)
    plan.translator.tokenizer.save_pretrained(staged)
    seconds, peak = taken
    return publish(
        staged,
        Expert(
            department=plan.department,
            version=int(run.name),
            method=plan.training.method,
            trained=trained_by(plan.training),
            objective=plan.objective,
            parent=None if start is None else start.name,
            base_model=project.config.base_model,
            base_digest=base_model.base_digest(plan.source),
            data_digest=plan.data_digest,
            fingerprint=plan.fingerprint,
            digest=digest_files(*(staged / name for name in files)),
            files=files,
            seconds=round(seconds, 1),
            peak_bytes=peak,
            examples=len(plan.rows),
            folder=run / "expert",
        ),
        project,
    )


def _save(model: Any, weights: dict[str, torch.Tensor] | None, folder: Path, base: str) -> tuple[str, ...]:
    """Write the expert's own files, in PEFT's or transformers' format, and return their names."""
    if isinstance(model, PeftModel):
        # DPO keeps a copy of what it started from beside the adapter.
        model.save_pretrained(str(folder), selected_adapters=["default"], state_dict=weights)
        settle_adapter_config(folder / ADAPTER_CONFIG, base)
    elif weights is not None:
        model.save_pretrained(folder, state_dict={name: tensor.to(torch.bfloat16) for name, tensor in weights.items()})
    else:
        model.to(torch.bfloat16).save_pretrained(folder)
    names = (file.name for file in folder.iterdir() if file.is_file())
    return tuple(sorted(name for name in names if name.endswith((".safetensors", ".index.json", "config.json"))))
