"""Rows → examples: what the columns of a row mean. Each shape is one entry of a table."""

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quintet.config import FormatConfig
from quintet.data.examples import Example, Place
from quintet.data.formats import shown
from quintet.errors import DataError
from quintet.messages import Message

ROLES = ("system", "user", "assistant")
SHAREGPT_ROLES = {"system": "system", "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}


class RowError(Exception):
    """A row was refused: the field, and what is wrong with it."""


@dataclass(frozen=True)
class ShapedRow:
    """What a shape reads from a row."""

    messages: tuple[Message, ...]
    rejected: str | None = None
    labels: tuple[tuple[str, str], ...] = ()
    group: str | None = None
    """What tells rows of one group, where the answer does not."""


Read = Callable[[Mapping[str, Any], FormatConfig], ShapedRow]


@dataclass(frozen=True)
class Shape:
    """A way to lay out a row: the fields it must have, those it may have, and how they are read."""

    name: str
    required: tuple[str, ...]
    optional: tuple[str, ...]
    read: Read


def to_example(values: Mapping[str, Any], place: Place, shape: Shape, settings: FormatConfig) -> Example:
    """Return the example of a row; raise RowError naming field, what was found, and the fix."""
    fields = _named(values, shape, settings)
    draft = shape.read(fields, settings)
    roles = [m.role for m in draft.messages if m.role != "system"]
    expected = ["user", "assistant"] * (len(roles) // 2)
    if not roles or roles != expected or any(m.role == "system" for m in draft.messages[1:]):
        found = ", ".join(m.role for m in draft.messages)
        raise RowError(
            f"field 'messages': expected an optional system turn, then user and assistant in turn, ending with "
            f"assistant; found {found[:200] + '...' if len(found) > 200 else found or 'no turns'}"
        )
    # Paraphrases of one question share their answer, so the answer names the group when nothing else does.
    group = draft.group or draft.messages[-1].content
    if fields.get("group") not in (None, ""):
        group = text(fields["group"], "group")
    return Example(draft.messages, group, place, draft.rejected, draft.labels)


def candidates(settings: FormatConfig) -> list[Shape]:
    """Return the shapes that the config allows: the one it names, else those that have every field it maps.

    Raises DataError when there is none: a mapping that nothing reads would be lost unseen.
    """
    named = [LABELS] if settings.labels else [s for s in SHAPES if settings.shape in (None, s.name)]
    found = [shape for shape in named if settings.columns.keys() <= {*shape.required, *shape.optional}]
    if not found:
        fields = sorted({field for shape in named for field in (*shape.required, *shape.optional)})
        raise DataError(
            [
                f"format: columns: maps the fields {_listed(settings.columns)}, which no shape has together; expected "
                f"fields of one shape on the left, its columns on the right; the fields are {', '.join(fields)}"
            ]
        )
    return found


def find_shape(columns: frozenset[str], settings: FormatConfig, allowed: Sequence[Shape]) -> Shape:
    """Return the first of the allowed shapes whose fields the columns hold; raise RowError for none."""

    def missing(shape: Shape) -> list[str]:
        return [field for field in shape.required if settings.columns.get(field, field) not in columns]

    found = next((shape for shape in allowed if not missing(shape)), None)
    if found is None and len(allowed) == 1:
        raise RowError(_missing(missing(allowed[0])[0], allowed[0], columns, settings))
    if found is None:
        for shape in allowed:
            near = difflib.get_close_matches(missing(shape)[0], columns, 1, cutoff=0.8)
            if near and len(missing(shape)) == 1:
                raise RowError(f"unknown field {near[0]!r}; did you mean {missing(shape)[0]!r}?")
        wanted = "; or ".join(" and ".join(shape.required) for shape in allowed)
        raise RowError(
            f"found the fields {_listed(columns)}; expected {wanted}; "
            "other names can be mapped under 'format: columns:'"
        )
    return found


def unused_columns(columns: frozenset[str], shape: Shape, settings: FormatConfig) -> frozenset[str]:
    """Return the columns that the shape does not read; raise RowError for one that looks like a misspelt field."""
    known = {settings.columns.get(field, field) for field in (*shape.required, *shape.optional)}
    unused = columns - known - set(settings.labels)
    for field in shape.optional:
        if settings.columns.get(field, field) not in columns:
            near = difflib.get_close_matches(field, unused, 1, cutoff=0.8)
            if near:
                raise RowError(f"unknown field {near[0]!r}; did you mean {field!r}?")
    return unused


def text(value: object, field: str) -> str:
    """Return a value that must be text with something in it; raise RowError otherwise."""
    if not isinstance(value, str):
        raise RowError(f"field {field!r}: expected text, found {shown(value)}")
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        raise RowError(f"field {field!r} holds half a character (a lone surrogate); mend the text")
    if not value or value.isspace():
        raise RowError(f"field {field!r} is empty; fill it in or remove the row")
    return value


def _named(values: Mapping[str, Any], shape: Shape, settings: FormatConfig) -> Mapping[str, Any]:
    """Return the row under the names of the shape's fields."""
    if not settings.columns:
        return values
    fields = (*shape.required, *shape.optional)
    mapped = {field: values[column] for field in fields if (column := settings.columns.get(field, field)) in values}
    return mapped | {label: values[label] for label in settings.labels if label in values}


def _missing(field: str, shape: Shape, columns: frozenset[str], settings: FormatConfig) -> str:
    column, wanted = settings.columns.get(field, field), ", ".join(shape.required)
    return f"field {column!r} is missing; found the fields {_listed(columns)}; a {shape.name} row has {wanted}"


def _listed(columns: Iterable[str]) -> str:
    return ", ".join(map(repr, sorted(columns))) or "none"


def _pair(question: str, answer: str) -> Read:
    def read(row: Mapping[str, Any], _: FormatConfig) -> ShapedRow:
        return ShapedRow(
            (Message("user", text(row[question], question)), Message("assistant", text(row[answer], answer)))
        )

    return read


def _instruction(row: Mapping[str, Any], _: FormatConfig) -> ShapedRow:
    question = text(row["instruction"], "instruction")
    extra = row.get("input")
    if extra is not None and extra != "":
        question += "\n\n" + text(extra, "input")
    return ShapedRow((Message("user", question), Message("assistant", text(row["output"], "output"))))


def _turns(value: object, field: str, role_key: str, text_key: str, roles: Mapping[str, str]) -> tuple[Message, ...]:
    if not isinstance(value, list):
        raise RowError(f"field {field!r}: expected a list of turns, found {shown(value)}")
    return tuple(_turn(turn, f"{field}[{n}]", role_key, text_key, roles) for n, turn in enumerate(value))


def _turn(turn: object, field: str, role_key: str, text_key: str, roles: Mapping[str, str]) -> Message:
    if not isinstance(turn, dict) or role_key not in turn or text_key not in turn:
        raise RowError(f"field {field!r}: expected an object with {role_key} and {text_key}, found {shown(turn)}")
    if extra := sorted(str(key) for key, value in turn.items() if key not in (role_key, text_key) and value):
        raise RowError(f"field '{field}.{extra[0]}' is not supported: it would be lost; remove it")
    role = turn[role_key]
    if not isinstance(role, str) or role not in roles:
        expected = ", ".join(roles)
        raise RowError(f"field '{field}.{role_key}': expected one of {expected}, found {shown(role)}")
    return Message(roles[role], text(turn[text_key], f"{field}.{text_key}"))


def _messages(value: object, field: str) -> tuple[Message, ...]:
    return _turns(value, field, "role", "content", {role: role for role in ROLES})


def _from_messages(row: Mapping[str, Any], _: FormatConfig) -> ShapedRow:
    return ShapedRow(_messages(row["messages"], "messages"))


def _from_conversations(row: Mapping[str, Any], _: FormatConfig) -> ShapedRow:
    return ShapedRow(_turns(row["conversations"], "conversations", "from", "value", SHAREGPT_ROLES))


def _from_preference(row: Mapping[str, Any], _: FormatConfig) -> ShapedRow:
    prompt = row["prompt"]
    before = _messages(prompt, "prompt") if isinstance(prompt, list) else (Message("user", text(prompt, "prompt")),)
    chosen, rejected = (_preferred(row[field], field, before) for field in ("chosen", "rejected"))
    if chosen == rejected:
        raise RowError("fields 'chosen' and 'rejected' are the same; a preference needs two different answers")
    return ShapedRow((*before, Message("assistant", chosen)), rejected, group="\n".join(m.content for m in before))


def _preferred(value: object, field: str, before: tuple[Message, ...]) -> str:
    """Return the answer: a text, or messages that are the answer alone or repeat the prompt before it."""
    if not isinstance(value, list):
        return text(value, field)
    turns = _messages(value, field)
    if not turns or turns[-1].role != "assistant" or turns[:-1] not in ((), before):
        raise RowError(f"field {field!r}: expected one assistant turn, or the prompt's turns and one assistant turn")
    return turns[-1].content


def _from_labels(row: Mapping[str, Any], settings: FormatConfig) -> ShapedRow:
    missing = [label for label in settings.labels if row.get(label) is None]
    if missing:
        raise RowError(f"field {missing[0]!r} is missing; it is named under 'format: labels:'")
    labels = tuple((label, _label(row[label], label)) for label in settings.labels)
    content = text(row["text"], "text")
    question = f"{settings.instruction}\n\n{content}" if settings.instruction else content
    answer = labels[0][1] if len(labels) == 1 else "\n".join(f"{label}: {value}" for label, value in labels)
    return ShapedRow((Message("user", question), Message("assistant", answer)), labels=labels, group=content)


def _label(value: object, field: str) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list) and value:
        return ", ".join(_label(one, field) for one in value)
    return str(value) if isinstance(value, int) else text(value, field).strip()


SHAPES = (
    Shape("messages", ("messages",), ("group",), _from_messages),
    Shape("conversations", ("conversations",), ("group",), _from_conversations),
    Shape("preference", ("prompt", "chosen", "rejected"), ("group",), _from_preference),
    Shape("question/answer", ("question", "answer"), ("group",), _pair("question", "answer")),
    Shape("prompt/completion", ("prompt", "completion"), ("group",), _pair("prompt", "completion")),
    Shape("instruction", ("instruction", "output"), ("input", "group"), _instruction),
)
LABELS = Shape("labels", ("text",), ("group",), _from_labels)
