"""Our settings → the trainers' own. One place, so that what a key means is the same for every method."""

from math import ceil
from pathlib import Path
from typing import Any

import torch
from trl import DPOConfig, KTOConfig, SFTConfig

from quintet.config import TrainingConfig
from quintet.errors import ConfigError
from quintet.training.methods import DPO, FULL, KTO, is_prompt_learning, learning_rate, trained_by

CHECKPOINTS = 5
"""How many checkpoints a run makes on its way; the last one is kept until the run has ended."""
OPTIMIZERS = {
    "adamw": "adamw_torch",
    "adamw_8bit": "adamw_8bit",
    "paged_adamw_8bit": "paged_adamw_8bit",
    "adafactor": "adafactor",
}


def trainer_arguments(training: TrainingConfig, run: Path, device: str) -> SFTConfig | DPOConfig | KTOConfig:
    """Return what the objective's trainer is told."""
    common = _common(training, run, device)
    if training.method == DPO:
        return _preference_arguments(training, common)
    return SFTConfig(
        **common,
        num_train_epochs=training.epochs,
        per_device_train_batch_size=training.batch_size,
        dataset_kwargs={"skip_prepare_dataset": True},
        train_sampling_strategy="group_by_length" if training.group_by_length else "random",
    )


def _preference_arguments(training: TrainingConfig, common: dict[str, Any]) -> DPOConfig | KTOConfig:
    dpo = training.dpo
    common |= {
        "num_train_epochs": dpo.epochs,
        "per_device_train_batch_size": dpo.batch_size or training.batch_size,
        "beta": dpo.beta,
        # With all weights trained, what the start would say is worked out once, before: no second copy is held.
        "precompute_ref_log_probs": trained_by(training) == FULL,
    }
    if dpo.loss == KTO:
        return KTOConfig(**common, train_sampling_strategy="sequential")
    return DPOConfig(**common, loss_type=[dpo.loss], label_smoothing=dpo.label_smoothing)


def steps_of(training: TrainingConfig, objective: str, rows: int) -> int:
    """Return how often the weights move in a run over so many rows."""
    dpo = training.dpo
    size, epochs = training.batch_size, training.epochs
    if objective == "dpo":
        size, epochs = dpo.batch_size or size, dpo.epochs
        rows *= 2 if dpo.loss == KTO else 1
    per_epoch = max(1, ceil(ceil(rows / size) / training.gradient_accumulation))
    return ceil(epochs * per_epoch)


def _common(training: TrainingConfig, run: Path, device: str) -> dict[str, Any]:
    if device == "cpu" and training.optimizer.endswith("8bit"):
        raise ConfigError(
            f"training.optimizer: {training.optimizer!r} needs a GPU; use 'adamw', or 'adafactor', which holds less"
        )
    return {
        "output_dir": str(run / "checkpoints"),
        "gradient_accumulation_steps": training.gradient_accumulation,
        "learning_rate": learning_rate(training),
        "lr_scheduler_type": training.schedule if training.schedule != "constant" else "constant_with_warmup",
        "warmup_steps": training.warmup,
        "optim": OPTIMIZERS[training.optimizer],
        "weight_decay": training.weight_decay,
        "max_grad_norm": 1.0,
        # Short runs have few steps to average over: 0.95 forgets old gradients in 20 of them, 0.999 in 1,000.
        "adam_beta2": 0.95,
        "seed": training.seed,
        "data_seed": training.seed,
        "ddp_find_unused_parameters": False,
        "bf16": has_fast_bfloat16(device),
        "use_cpu": device == "cpu",
        "max_length": None,
        "gradient_checkpointing": _checkpoints_gradients(training, device),
        "dataloader_pin_memory": device != "cpu",
        "logging_steps": training.logging_steps,
        "logging_nan_inf_filter": False,
        "save_strategy": "steps",
        "save_steps": 1 / CHECKPOINTS,
        "save_total_limit": 1,
        "report_to": "none",
        "run_name": f"{run.parent.name}@{run.name}",
        "disable_tqdm": True,
        **(_KEEP_BEST if training.patience else {}),
    }


_KEEP_BEST = {
    "eval_strategy": "steps",
    "eval_steps": 1 / CHECKPOINTS,
    "load_best_model_at_end": True,
    "metric_for_best_model": "eval_loss",
    "greater_is_better": False,
}


def _checkpoints_gradients(training: TrainingConfig, device: str) -> bool:
    if training.gradient_checkpointing is not None:
        return training.gradient_checkpointing
    # It trades time for memory, which is what a GPU lacks; virtual tokens in the cache do not survive it.
    return device != "cpu" and not is_prompt_learning(trained_by(training))


def has_fast_bfloat16(device: str) -> bool:
    """Whether the device computes bfloat16 in hardware."""
    if device == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return bool(torch.cuda.is_bf16_supported(including_emulation=False))
