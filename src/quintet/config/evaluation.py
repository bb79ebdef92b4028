"""How experts are evaluated, and what they must be to be released."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from quintet.config.section import EndpointSection, Section


class GateConfig(Section):
    """What an expert must be before it may be released; a rule that is null is not applied."""

    metric: Literal["f1", "exact_match", "rouge_l", "chrf", "accuracy"] = "f1"
    questions: int | None = Field(20, ge=1)
    better_than_base: bool = True
    specific: bool = True
    live_margin: float | None = Field(0.02, ge=0, le=1)
    ended: float | None = Field(0.99, ge=0, le=1)
    general_perplexity: float | None = Field(1.2, gt=0)


class JudgeConfig(EndpointSection):
    """Which model, behind which OpenAI-compatible endpoint, says whose answer is better."""

    role: ClassVar[str] = "judge"
    key_name: str = "QUINTET_JUDGE_KEY"


class SimilarityConfig(EndpointSection):
    """Which model, behind which OpenAI-compatible endpoint, embeds answers and references."""

    role: ClassVar[str] = "similarity model"
    key_name: str = "QUINTET_SIMILARITY_KEY"


class EvaluationConfig(Section):
    """How experts are evaluated."""

    max_tokens: int = Field(128, ge=1)
    batch_size: int = Field(32, ge=1)
    general_data: Path | None = None
    gate: GateConfig = GateConfig()
    judge: JudgeConfig | None = None
    similarity: SimilarityConfig | None = None
