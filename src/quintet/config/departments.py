"""What a department is for, and its data."""

from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from quintet.config.providers import EXPERT
from quintet.config.section import Lasting, Section, lasting

TooLong = Literal["refuse", "truncate", "split"]
"""What becomes of a row over the context length."""


class FormatConfig(Section):
    """How the rows of a data set are read; what is not named here is found out from their columns."""

    shape: (
        Literal["messages", "conversations", "preference", "question/answer", "prompt/completion", "instruction"] | None
    ) = None
    columns: dict[str, str] = Field(default_factory=dict)
    labels: tuple[str, ...] = ()
    instruction: str | None = Field(None, min_length=1)

    @model_validator(mode="after")
    def _labels_have_a_shape_of_their_own(self) -> "FormatConfig":
        if self.labels and self.shape is not None:
            raise ValueError("a data set with labels has no other shape; remove 'shape' or 'labels'")
        if self.instruction is not None and not self.labels:
            raise ValueError("'instruction' is what is asked about each text of a data set with 'labels'; name those")
        return self


class DepartmentConfig(Section):
    """One department: what it is for, its data, and what it trains differently from the rest."""

    description: str = Field(min_length=1)
    data: Path | None = None
    answered_by: tuple[str, ...] = Field((EXPERT,), min_length=1)
    eval_data: Path | None = None
    eval_fraction: float = Field(0.1, gt=0, lt=1)
    preferences: Path | None = None
    format: FormatConfig = FormatConfig()
    too_long: TooLong = "refuse"
    keep_requests: Lasting | None = None
    training: dict[str, Any] = Field(default_factory=dict)
    gate: dict[str, Any] = Field(default_factory=dict)

    @property
    def has_expert(self) -> bool:
        """Whether an expert may answer for it, and so is to be trained."""
        return EXPERT in self.answered_by

    @property
    def keeps_for(self) -> timedelta | None:
        """How long requests and answers are kept; without it they are not."""
        return lasting(self.keep_requests) if self.keep_requests else None
