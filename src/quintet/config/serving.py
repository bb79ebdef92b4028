"""How experts are served, and where their versions lie."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, ByteSize, Field

from quintet.config.section import Section

KeyMode = Literal["auto", "required", "off"]
"""When a request needs a key: once there is one, always, never."""
LogFormat = Literal["text", "json"]
Precision = Literal["float32", "bfloat16", "float16", "int8"]


def _off(value: object) -> object:
    # YAML reads the bare word as a truth value.
    return "off" if value is False else value


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
    engine: Literal["auto", "torch"] = "auto"
    precision: Literal[Precision, "auto"] = "auto"


class RegistryConfig(Section):
    """Where versions and releases are kept; what several machines share is named by URL."""

    database: str | None = Field(None, min_length=1)
    artifacts: str | None = Field(None, min_length=1)
