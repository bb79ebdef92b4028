"""Models elsewhere that may answer for departments: where each is, and how long it is waited for."""

from typing import ClassVar

from pydantic import Field

from quintet.config.section import EndpointSection

EXPERT = "expert"
"""The department's own expert, among those who answer for it."""


class ProviderConfig(EndpointSection):
    """A model behind an OpenAI-compatible endpoint; times are in seconds. Without a `key_name` it is sent no key."""

    role: ClassVar[str] = "provider"
    key_name: str = ""
    connect_timeout: float = Field(5.0, gt=0)
    first_timeout: float = Field(30.0, gt=0)
    chunk_timeout: float = Field(30.0, gt=0)
    timeout: float = Field(120.0, gt=0)
    retries: int = Field(2, ge=0, le=10)
    break_after: int = Field(5, ge=1)
    break_for: float = Field(30.0, gt=0)
