"""What is trained: all weights, or the adapter that a method adds. Knows nothing of what is minimised."""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from peft import LoraConfig, PeftConfig, PrefixTuningConfig, TaskType
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from transformers import BitsAndBytesConfig, PretrainedConfig

from quintet.config import TrainingConfig
from quintet.errors import ConfigError

FULL, LORA, QLORA, PREFIX, DPO = "full", "lora", "qlora", "prefix", "dpo"
KTO = "kto"
"""The loss of DPO that judges each answer by itself; its trainer is another than that of pairs."""
ADAPTERS = {LORA: "LORA", QLORA: "LORA", PREFIX: "PREFIX_TUNING", "prompt": "PROMPT_TUNING"}
"""The methods whose names are not PEFT's own."""
PROMPT_LEARNING = frozenset({"PREFIX_TUNING", "PROMPT_TUNING", "P_TUNING"})

# LoRA's best rate is about ten times that of full fine-tuning, over many models and data sets (Schulman and Thinking
# Machines Lab 2025, "LoRA Without Regret"). Virtual tokens are few and start at random: theirs is higher again.
LEARNING_RATES = {FULL: 2e-5}
PROMPT_RATE, ADAPTER_RATE = 1e-2, 2e-4
# Of the same method's rate: preferences move a model that answers well already, and should move it little.
DPO_SHARE = 0.05


def trained_by(training: TrainingConfig) -> str:
    """Return what is trained: the method, or what DPO trains by it."""
    return training.dpo.trains if training.method == DPO else training.method


def check_method(training: TrainingConfig) -> None:
    """Raise ConfigError for a method that there is none of, or options that it does not take."""
    method, options = trained_by(training), training.peft_options
    if method == DPO:
        raise ConfigError("training.dpo.trains: 'dpo' is what is minimised; name what is trained, such as lora or full")
    if training.method == DPO and training.dpo.loss == KTO and (training.dpo.batch_size or training.batch_size) == 1:
        raise ConfigError("training.dpo.loss: 'kto' compares the answers of a batch; raise batch_size above 1")
    kind = None if method == FULL else peft_type(method)
    if options and kind is None:
        raise ConfigError("training.peft_options: the method 'full' takes none; remove them")
    if options and method in BUILDERS:
        raise ConfigError(f"training.peft_options: the method {method!r} has a section of its own; set them there")
    if kind is not None:
        known = {field.name for field in fields(_config_class(kind)) if field.init} - {"task_type", "peft_type"}
        for name in options:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"it has: {', '.join(sorted(known))}"
                raise ConfigError(f"training.peft_options.{name}: PEFT's {kind} has no such option; {hint}")
    if is_prompt_learning(method) and training.gradient_checkpointing:
        raise ConfigError(
            f"training.gradient_checkpointing: it forgets the states that {method!r} puts into the cache; "
            "remove it, and lower batch_size to save memory"
        )


def peft_type(method: str) -> str:
    """Return PEFT's name of the method's adapter; raise ConfigError for a method that there is none of."""
    kind = ADAPTERS.get(method, method.upper())
    if kind not in {known.value for known in PEFT_TYPE_TO_CONFIG_MAPPING}:
        ours, others = [FULL, *ADAPTERS, DPO], [known.value.lower() for known in PEFT_TYPE_TO_CONFIG_MAPPING]
        near = difflib.get_close_matches(method, ours, 1) or difflib.get_close_matches(method, others, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(dict.fromkeys([*ours, *others]))}"
        raise ConfigError(f"training.method: there is no method {method!r}; {hint}")
    return kind


def is_prompt_learning(method: str) -> bool:
    """Whether the method learns virtual tokens in front of a text, and changes no weight."""
    return method != FULL and peft_type(method) in PROMPT_LEARNING


def learning_rate(training: TrainingConfig) -> float:
    """Return the rate for what is trained, unless the config names one; DPO's is its own section's."""
    method = trained_by(training)
    if training.method == DPO:
        return training.dpo.learning_rate or DPO_SHARE * _default_rate(method)
    return training.learning_rate or _default_rate(method)


def _default_rate(method: str) -> float:
    return LEARNING_RATES.get(method, PROMPT_RATE if is_prompt_learning(method) else ADAPTER_RATE)


def quantization(training: TrainingConfig, compute: Any) -> BitsAndBytesConfig | None:
    """Return how the frozen base is quantised: NF4, its constants quantised again (Dettmers et al. 2023), or not."""
    if trained_by(training) != QLORA:
        return None
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute,
    )


def peft_config(training: TrainingConfig, base: PretrainedConfig) -> PeftConfig | None:
    """Return the PEFT config of the method, or None where all weights are trained."""
    method = trained_by(training)
    if method == FULL:
        return None
    build = BUILDERS.get(method)
    return build(training, base) if build else _by_name(method, training)


def _lora(training: TrainingConfig, _: PretrainedConfig) -> PeftConfig:
    """LoRA on all linear layers (Hu et al. 2021, arXiv:2106.09685), with DoRA and rsLoRA by option."""
    return LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=training.lora.rank,
        lora_alpha=training.lora.alpha,
        lora_dropout=training.lora.dropout,
        use_dora=training.lora.dora,
        use_rslora=training.lora.rslora,
        target_modules="all-linear",
    )


def _prefix(training: TrainingConfig, base: PretrainedConfig) -> PeftConfig:
    """Keys and values of virtual tokens in every layer (Li and Liang 2021, arXiv:2101.00190)."""
    return PrefixTuningConfig(
        task_type=TaskType.CAUSAL_LM,
        num_virtual_tokens=training.prefix.virtual_tokens,
        prefix_projection=training.prefix.reparameterise,
        encoder_hidden_size=training.prefix.hidden_size or base.get_text_config().hidden_size,
    )


BUILDERS: Mapping[str, Callable[[TrainingConfig, PretrainedConfig], PeftConfig]] = {
    LORA: _lora,
    QLORA: _lora,
    PREFIX: _prefix,
}


def _config_class(kind: str) -> type[PeftConfig]:
    return next(found for known, found in PEFT_TYPE_TO_CONFIG_MAPPING.items() if known.value == kind)


def _by_name(method: str, training: TrainingConfig) -> PeftConfig:
    """Return the config of any other PEFT type, with the options that the project names."""
    kind, options = peft_type(method), dict(training.peft_options)
    if kind in PROMPT_LEARNING:
        options.setdefault("num_virtual_tokens", training.prefix.virtual_tokens)
    try:
        return _config_class(kind)(task_type=TaskType.CAUSAL_LM, **options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"training.peft_options: PEFT's {kind} does not take them: {error}") from None
