"""What becomes of a row over the context length: refused, cut in the question, or split between turns. Never unseen."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from quintet.chat import IGNORED, ChatTranslator, Encoded
from quintet.config import TooLong
from quintet.data.examples import Example, Place, Refusal
from quintet.errors import DataError, ModelError
from quintet.messages import Message


@dataclass
class Fitted:
    """The examples that fit, and the place and tokens of every row that was too long.

    `encoded` has the ids of each example that fitted as it was, so that nothing is tokenised twice: those of its
    conversation, and of a preference those with the worse answer too. It has none of a row that was cut or split.
    """

    examples: list[Example] = field(default_factory=list)
    encoded: list[tuple[Encoded, ...]] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    cut: list[tuple[Place, int]] = field(default_factory=list)
    parted: list[tuple[Place, int]] = field(default_factory=list)

    @property
    def notes(self) -> list[str]:
        """What was done to rows, in words."""
        done = (("had their question cut to fit the context", self.cut), ("were split between turns", self.parted))
        return [f"{len(rows)} rows {what}, the first at {rows[0][0]}" for what, rows in done if rows]


class Size(NamedTuple):
    """An example's tokens, how many of them are trained, and its ids; a preference has those of both answers."""

    tokens: int
    trained: int
    encoded: tuple[Encoded, ...]


@dataclass(frozen=True)
class Fitter:
    """Makes rows fit a context of so many tokens, by the department's policy."""

    translator: ChatTranslator
    context: int
    policy: TooLong

    def fit_all(self, examples: Iterable[Example]) -> Fitted:
        """Return what fits and what became of the rest; raise DataError for the rows that the policy refuses."""
        fitted, examples = Fitted(), list(examples)
        for example, size in zip(examples, self.measure(examples), strict=True):
            if isinstance(size, Refusal):
                fitted.refused.append(size)
            else:
                self.fit(example, size, fitted)
        if fitted.refused:
            raise DataError([str(refusal) for refusal in fitted.refused])
        return fitted

    def measure(self, examples: Sequence[Example]) -> list[Size | Refusal]:
        """Return the size of each example, or why the base's chat template cannot write it."""
        try:
            return list(self._sizes(examples))
        except ModelError as error:
            if len(examples) == 1:
                return [Refusal(examples[0].place, str(error))]
        return [size for example in examples for size in self.measure([example])]

    def _sizes(self, examples: Sequence[Example]) -> list[Size]:
        """Return tokens and trained tokens; of a preference, those of its longer answer."""
        encoded = [(one,) for one in self.translator.encode_examples([example.messages for example in examples])]
        pairs = [row for row, example in enumerate(examples) if example.rejected is not None]
        worse = self.translator.encode_examples([examples[row].rejected_messages for row in pairs])
        either: dict[int, tuple[Encoded, ...]] = {
            row: (*encoded[row], other) for row, other in zip(pairs, worse, strict=True)
        }
        return [_size(either.get(row, one)) for row, one in enumerate(encoded)]

    def fit(self, example: Example, size: Size, fitted: Fitted) -> None:
        """Add one example of that size to what was fitted."""
        tokens = size.tokens
        if tokens <= self.context:
            fitted.examples.append(example)
            fitted.encoded.append(size.encoded)
            return
        parts = {"refuse": _refuse, "truncate": self._truncate, "split": self._split}[self.policy](example)
        if not parts:
            fitted.refused.append(Refusal(example.place, self._reason(tokens)))
            return
        fitted.examples += parts
        fitted.encoded += [()] * len(parts)
        (fitted.cut if self.policy == "truncate" else fitted.parted).append((example.place, tokens))

    def _reason(self, tokens: int) -> str:
        found = f"the row has {tokens} tokens, the base's context holds {self.context}; "
        if self.policy == "refuse":
            return found + "shorten it, or choose what becomes of such rows with 'too_long: truncate' or 'split'"
        if self.policy == "truncate":
            return found + "even without its question the answer is too long; shorten it"
        return found + "a single question and answer cannot be split; shorten it, or use 'too_long: truncate'"

    def _length(self, example: Example) -> int:
        return self._sizes([example])[0].tokens

    def _truncate(self, example: Example) -> list[Example]:
        """Cut the end of the last question as far as needed; the answer stays whole, or it would be learnt cut."""
        longest, low, high = None, 1, len(example.question)
        while low <= high:
            middle = (low + high) // 2
            *before, _, answer = example.messages
            candidate = _with_messages(example, (*before, Message("user", example.question[:middle]), answer))
            if candidate.question.strip() and self._length(candidate) <= self.context:
                longest, low = candidate, middle + 1
            else:
                high = middle - 1
        return [longest] if longest else []

    def _split(self, example: Example) -> list[Example]:
        """Cut a conversation between its exchanges, each part under the same system turn; [] when one is too long."""
        if example.rejected is not None:
            return []  # the preference is for the last answer alone
        system = example.messages[: len(example.messages) % 2]
        turns = example.messages[len(system) :]
        parts: list[Example] = []
        for at in range(0, len(turns), 2):
            exchange = turns[at : at + 2]
            if (
                parts
                and self._length(joined := _with_messages(parts[-1], parts[-1].messages + exchange)) <= self.context
            ):
                parts[-1] = joined
                continue
            alone = _with_messages(example, system + exchange)
            if self._length(alone) > self.context:
                return []
            parts.append(alone)
        return parts


def _size(encoded: tuple[Encoded, ...]) -> Size:
    tokens, trained = max((len(one.ids), len(one.labels) - one.labels.count(IGNORED)) for one in encoded)
    return Size(tokens, trained, encoded)


def _refuse(_: Example) -> list[Example]:
    return []


def _with_messages(example: Example, messages: tuple[Message, ...]) -> Example:
    return replace(example, messages=messages)
