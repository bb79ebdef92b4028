"""JSONL rows → examples. Every row is validated before anything is trained; every refusal names its line."""

import codecs
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quintet.errors import DataError

MESSAGE_ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: str
    content: str

    def as_dict(self) -> dict[str, str]:
        """Return the turn as chat templates want it."""
        return {"role": self.role, "content": self.content}


@dataclass(frozen=True)
class Example:
    """A conversation that ends with the answer to learn; rows of one `group` are never split apart."""

    messages: tuple[Message, ...]
    group: str
    line: int

    @property
    def prompt(self) -> tuple[Message, ...]:
        """Everything before the answer."""
        return self.messages[:-1]

    @property
    def question(self) -> str:
        """The last thing the user said."""
        return self.messages[-2].content

    @property
    def answer(self) -> str:
        """What the assistant must say."""
        return self.messages[-1].content


class _RowError(Exception):
    """A row was refused: the field, and what is wrong with it."""


def load_examples(path: Path) -> list[Example]:
    """Return the examples of a JSONL file, in order.

    Rows are `question/answer`, `prompt/completion`, `instruction/input/output` or OpenAI `messages`; `group`
    is optional. Raises DataError naming file, line, field, what was found and the fix, for every bad row.
    """
    if not path.is_file():
        raise DataError([f"{path} is no file; expected the JSONL file that quintet.yaml names"])
    if path.suffix != ".jsonl":
        raise DataError([f"{path}: expected a .jsonl file, one JSON object a line; convert it and name the new file"])
    examples: list[Example] = []
    problems: list[str] = []
    seen: dict[tuple[Message, ...], int] = {}
    for number, raw in enumerate(path.read_bytes().removeprefix(codecs.BOM_UTF8).split(b"\n"), 1):
        if not raw.strip():
            continue
        try:
            example = _parse_row(raw, number)
            if example.messages in seen:
                raise _RowError(f"the row repeats line {seen[example.messages]}; remove one of them")
        except _RowError as error:
            problems.append(f"{path}:{number}: {error}")
            continue
        seen[example.messages] = number
        examples.append(example)
    if not examples and not problems:
        problems.append(f"{path}: the file has no rows; expected one JSON object a line")
    if problems:
        raise DataError(problems)
    return examples


def _parse_row(raw: bytes, line: int) -> Example:
    try:
        row = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise _RowError(f"not UTF-8 at byte {error.start + 1}; save the file as UTF-8") from None
    except json.JSONDecodeError as error:
        raise _RowError(f"not valid JSON at column {error.colno}: {error.msg}; mend or remove the row") from None
    except (ValueError, RecursionError) as error:
        raise _RowError(f"not usable JSON: {error}; mend or remove the row") from None
    if not isinstance(row, dict):
        raise _RowError(f"expected a JSON object, found {_show(row)}")
    shape = next((shape for shape in SHAPES if shape.fields <= row.keys()), None)
    if shape is None:
        wanted = "; or ".join("/".join(sorted(s.fields, key=s.order.index)) for s in SHAPES)
        raise _RowError(f"found the fields {', '.join(map(repr, row)) or 'none'}; expected {wanted}")
    unknown = row.keys() - set(shape.order) - {"group"}
    if unknown:
        raise _RowError(f"unknown field {sorted(unknown)[0]!r}; a {shape.name} row has {', '.join(shape.order)}")
    messages = tuple(shape.read(row))
    _check_turns(messages)
    # Paraphrases of one question share their answer, so the answer names the group when nothing else does.
    group = row.get("group", messages[-1].content)
    return Example(messages, _text(group, "group"), line)


def _show(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def _text(value: object, field: str) -> str:
    if not isinstance(value, str):
        raise _RowError(f"field {field!r}: expected text, found {_show(value)}")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise _RowError(f"field {field!r} holds half a character (a lone surrogate); mend the text")
    if not value.strip():
        raise _RowError(f"field {field!r} is empty; fill it in or remove the row")
    return value


def _check_turns(messages: tuple[Message, ...]) -> None:
    roles = [m.role for m in messages if m.role != "system"]
    expected = ["user", "assistant"] * (len(roles) // 2)
    if not roles or roles != expected or any(m.role == "system" for m in messages[1:]):
        found = ", ".join(m.role for m in messages)
        raise _RowError(
            f"field 'messages': expected an optional system turn, then user and assistant in turn, ending with "
            f"assistant; found {found or 'no turns'}"
        )


def _from_pair(question: str, answer: str) -> Callable[[dict[str, Any]], Iterable[Message]]:
    def read(row: dict[str, Any]) -> Iterable[Message]:
        return (
            Message("user", _text(row[question], question)),
            Message("assistant", _text(row[answer], answer)),
        )

    return read


def _from_instruction(row: dict[str, Any]) -> Iterable[Message]:
    question = _text(row["instruction"], "instruction")
    extra = row.get("input") or ""
    if extra:
        question += "\n\n" + _text(extra, "input")
    return Message("user", question), Message("assistant", _text(row["output"], "output"))


def _from_messages(row: dict[str, Any]) -> Iterable[Message]:
    turns = row["messages"]
    if not isinstance(turns, list):
        raise _RowError(f"field 'messages': expected a list of turns, found {_show(turns)}")
    for number, turn in enumerate(turns):
        field = f"messages[{number}]"
        if not isinstance(turn, dict) or turn.keys() != {"role", "content"}:
            raise _RowError(f"field {field!r}: expected an object with role and content, found {_show(turn)}")
        if turn["role"] not in MESSAGE_ROLES:
            raise _RowError(f"field '{field}.role': expected one of {', '.join(MESSAGE_ROLES)}, "
                            f"found {_show(turn['role'])}")  # fmt: skip
        yield Message(turn["role"], _text(turn["content"], f"{field}.content"))


@dataclass(frozen=True)
class _Shape:
    name: str
    fields: frozenset[str]
    order: tuple[str, ...]
    read: Callable[[dict[str, Any]], Iterable[Message]]


SHAPES = (
    _Shape("messages", frozenset({"messages"}), ("messages",), _from_messages),
    _Shape("question/answer", frozenset({"question", "answer"}), ("question", "answer"),
           _from_pair("question", "answer")),
    _Shape("prompt/completion", frozenset({"prompt", "completion"}), ("prompt", "completion"),
           _from_pair("prompt", "completion")),
    _Shape("instruction", frozenset({"instruction", "output"}), ("instruction", "input", "output"),
           _from_instruction),
)  # fmt: skip
