"""How experts are trained."""

from typing import Any, Literal

from pydantic import Field, model_validator

from quintet.config.section import Section


class LoraConfig(Section):
    """Low-rank adapters on every linear layer; for the methods `lora` and `qlora`."""

    rank: int = Field(16, ge=1, le=1024)
    alpha: int = Field(32, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)
    dora: bool = False
    rslora: bool = False


class PrefixConfig(Section):
    """Virtual tokens as key and value states in every layer."""

    virtual_tokens: int = Field(32, ge=1, le=4096)
    reparameterise: bool = False
    hidden_size: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _a_hidden_size_is_of_the_reparameterisation(self) -> "PrefixConfig":
        if self.hidden_size is not None and not self.reparameterise:
            raise ValueError("'hidden_size' is that of the reparameterisation; set 'reparameterise: true' or remove it")
        return self


class DpoConfig(Section):
    """How preferences are learnt: what is trained, from where, by which loss."""

    trains: str = Field("lora", min_length=1)
    start_from: str = Field("sft", min_length=1)
    beta: float = Field(0.1, gt=0)
    loss: Literal["sigmoid", "hinge", "ipo", "robust", "exo_pair", "apo_zero", "apo_down", "kto"] = "sigmoid"
    label_smoothing: float = Field(0.0, ge=0, lt=0.5)
    epochs: float = Field(2.0, gt=0)
    batch_size: int | None = Field(None, ge=1)
    learning_rate: float | None = Field(None, gt=0)


class TrainingConfig(Section):
    """How experts are trained; the defaults suit models of one to eight billion parameters."""

    method: str = Field("lora", min_length=1)
    start_from: str | None = Field(None, min_length=1)
    epochs: float = Field(3.0, gt=0)
    batch_size: int = Field(8, ge=1)
    gradient_accumulation: int = Field(1, ge=1)
    learning_rate: float | None = Field(None, gt=0)
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: float = Field(0.05, ge=0, lt=1)
    optimizer: Literal["adamw", "adamw_8bit", "paged_adamw_8bit", "adafactor"] = "adamw"
    weight_decay: float = Field(0.0, ge=0)
    group_by_length: bool = False
    gradient_checkpointing: bool | None = None
    patience: int | None = Field(None, ge=1)
    trackers: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = ()
    logging_steps: int = Field(10, ge=1)
    seed: int = Field(20, ge=0)
    lora: LoraConfig = LoraConfig()
    prefix: PrefixConfig = PrefixConfig()
    dpo: DpoConfig = DpoConfig()
    peft_options: dict[str, Any] = Field(default_factory=dict)
