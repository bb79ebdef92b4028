"""How experts are served, and where their versions lie."""

from datetime import timedelta
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, ByteSize, Field, field_validator, model_validator

from quintet.config.section import EndpointSection, Lasting, Section, lasting

KeyMode = Literal["auto", "required", "off"]
"""When a request needs a key: once there is one, always, never."""
LogFormat = Literal["text", "json"]
Precision = Literal["float32", "bfloat16", "float16", "int8"]


def _off(value: object) -> object:
    # YAML reads the bare word as a truth value.
    return "off" if value is False else value


class CacheConfig(Section):
    """Where answers are kept that would come out the same again, how much of them, and for how long.

    `store` is `memory`, `off`, or the URL of a Redis, which itself is to know how much it may hold.
    """

    store: Annotated[str, BeforeValidator(_off)] = "memory"
    size: ByteSize = Field(ByteSize(64_000_000), gt=0)
    ttl: str = "1h"

    @model_validator(mode="before")
    @classmethod
    def _a_word_is_the_store(cls, value: Any) -> Any:
        return {"store": value} if isinstance(value, str | bool) else value

    @field_validator("store")
    @classmethod
    def _is_a_store(cls, text: str) -> str:
        if text not in ("memory", "off") and not text.startswith(("redis://", "rediss://", "unix://", "${")):
            raise ValueError("expected memory, off, or one such as redis://host:6379/0")
        return text

    @field_validator("ttl")
    @classmethod
    def _lasts(cls, text: str) -> str:
        if not lasting(text):
            raise ValueError("expected how long, such as 1h, 30m or 7d")
        return text

    @property
    def seconds(self) -> float:
        """How long an answer is kept."""
        return (lasting(self.ttl) or timedelta()).total_seconds()


class TranscriptionConfig(EndpointSection):
    """Which model, behind which OpenAI-compatible endpoint, writes down what people say to the page."""

    role: ClassVar[str] = "transcription model"
    key_name: str = "QUINTET_TRANSCRIPTION_KEY"


class ServingConfig(Section):
    """How experts are served."""

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    keys: Annotated[KeyMode, BeforeValidator(_off)] = "auto"
    default_model: str | None = None
    cors_origins: tuple[str, ...] = ()
    max_queue: int = Field(64, ge=1)
    deadline_seconds: float = Field(600, gt=0)
    max_body: ByteSize = Field(ByteSize(4_000_000), gt=0)
    client_seconds: float = Field(30, gt=0)
    max_connections: int = Field(16_384, ge=1)
    drain_seconds: float = Field(25, ge=0)
    expert_memory: ByteSize | None = Field(None, gt=0)
    logs: LogFormat = "text"
    precision: Literal[Precision, "auto"] = "auto"
    cache: CacheConfig = CacheConfig()
    transcription: TranscriptionConfig | None = None
    keep_conversations: Lasting | None = None

    @property
    def keeps_conversations_for(self) -> timedelta | None:
        """How long a conversation of the page is kept after its last change; without it, the browser keeps it."""
        return lasting(self.keep_conversations) if self.keep_conversations else None


class RegistryConfig(Section):
    """Where versions and releases are kept; what several machines share is named by URL."""

    database: str | None = Field(None, min_length=1)
    artifacts: str | None = Field(None, min_length=1)
