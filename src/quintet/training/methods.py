"""What is trained: each method as the PEFT config that makes it. Knows nothing of what is minimised."""

from peft import LoraConfig, PeftConfig

from quintet.config import TrainingConfig


def peft_config(training: TrainingConfig) -> PeftConfig:
    """Return the PEFT config of the method: LoRA on all linear layers (Hu et al. 2021, arXiv:2106.09685)."""
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=training.lora.rank,
        lora_alpha=training.lora.alpha,
        lora_dropout=training.lora.dropout,
        target_modules="all-linear",
    )
