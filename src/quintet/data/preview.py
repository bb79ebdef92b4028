"""An example as the model will see it: each token's text, and whether it is trained. Draws nothing."""

from dataclasses import dataclass

from quintet.chat import IGNORED, ChatTranslator
from quintet.data.examples import Example, Place
from quintet.messages import Message


@dataclass(frozen=True)
class PreviewToken:
    """One id; `text` is what it adds, "" where a character goes on in the next token."""

    id: int
    text: str
    trained: bool


@dataclass(frozen=True)
class Preview:
    """A conversation's tokens; `answer` is `chosen` or `rejected` for the two of a preference, else nothing."""

    place: Place
    answer: str
    tokens: tuple[PreviewToken, ...]

    @property
    def trained(self) -> int:
        """How many of the tokens are trained."""
        return sum(token.trained for token in self.tokens)

    @property
    def title(self) -> str:
        """Where the row stands and how much of it is trained, in words."""
        kind = f" ({self.answer})" if self.answer else ""
        return f"{self.place}{kind}: {len(self.tokens)} tokens, {self.trained} of them trained"


def preview(example: Example, translator: ChatTranslator) -> list[Preview]:
    """Return the tokens of an example; of a preference, those of its chosen and of its rejected answer."""
    if example.rejected is None:
        return [_preview(example.messages, "", example.place, translator)]
    pair = (("chosen", example.messages), ("rejected", example.rejected_messages))
    return [_preview(messages, answer, example.place, translator) for answer, messages in pair]


def _preview(messages: tuple[Message, ...], answer: str, place: Place, translator: ChatTranslator) -> Preview:
    encoded = translator.encode_example(messages)
    rows = zip(encoded.ids, translator.pieces(encoded.ids), encoded.labels, strict=True)
    return Preview(place, answer, tuple(PreviewToken(id_, text, label != IGNORED) for id_, text, label in rows))
