"""Provider request: what a provider is asked, in OpenAI's words."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from quintet.messages import Message

BYTES_OF_A_TOKEN = 4
"""Of English; where a provider does not say how many tokens there were, they are estimated by this."""
Route = Literal["chat", "text"]


@dataclass(frozen=True)
class Asked:
    """The fields of a request but those of the provider: its model, and how the answer comes.

    `max_tokens` is for each of `count` choices, `prompt_tokens` an estimate. `messages` is what is kept of the
    question, where the department keeps it.
    """

    route: Route
    fields: dict[str, Any]
    prompt_tokens: int
    max_tokens: int
    count: int = 1
    messages: Sequence[Message] = field(default=())


def estimate_tokens(text: str) -> int:
    """Return about how many tokens a text has."""
    return math.ceil(len(text.encode("utf-8", "replace")) / BYTES_OF_A_TOKEN)
