"""What all sections of quintet.yaml have in common. Knows no section."""

import os
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from quintet.config.endpoint import EndpointSettings


class Section(BaseModel):
    """What is written under a key: nothing unknown, and nothing that changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _an_empty_section_has_its_defaults(cls, value: Any) -> Any:
        return {} if value is None else value


class EndpointSection(Section):
    """A model behind an OpenAI-compatible endpoint; its key is in the environment."""

    role: ClassVar[str]

    url: str
    model: str = Field(min_length=1)
    key_name: str

    def settings(self, environment: Mapping[str, str] = os.environ) -> EndpointSettings:
        """Return whom to ask, with the key that the environment holds; raise ConfigError when it cannot be asked."""
        key = environment.get(self.key_name, "").strip()
        return EndpointSettings(self.url, self.model, key or None, self.key_name, self.role)


def lasting(text: str) -> timedelta | None:
    """Return how long `30m`, `12h`, `90d` or `2w` is; None for what is none of these, or far longer."""
    units = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
    found = re.fullmatch(r"(\d{1,5})([mhdw])", text)
    return timedelta(**{units[found[2]]: int(found[1])}) if found else None


def _check_lasting(text: str) -> str:
    if lasting(text) is None:
        raise ValueError("expected how long, such as 30d, 12h or 8w")
    return text


Lasting = Annotated[str, AfterValidator(_check_lasting)]
"""How long something is kept, as it is written."""


def overlay(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Return the keys of both, nested ones too; where both have one, that of `above`."""
    merged = dict(below)
    for key, value in above.items():
        nested = isinstance(value, dict) and isinstance(below.get(key), dict)
        merged[key] = overlay(below[key], value) if nested else value
    return merged
