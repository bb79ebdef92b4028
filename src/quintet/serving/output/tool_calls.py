"""Tool calls: how the chat template writes calls of functions, and how they are read from an answer."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from quintet.chat import ChatTranslator, Turn
from quintet.errors import ModelError
from quintet.serving.answer import Call
from quintet.serving.output.stop_strings import overlap
from quintet.serving.output.structured_output import JSON_OPTIONS

PROBE = "probe_function"
PROBE_ARGUMENTS = {"probe_argument": "probe_value"}
PROBE_TOOL = {
    "type": "function",
    "function": {
        "name": PROBE,
        "description": "Probes.",
        "parameters": {"type": "object", "properties": {"probe_argument": {"type": "string"}}},
    },
}


@dataclass(frozen=True)
class CallFormat:
    """How a base writes a call: JSON with two keys, and what stands before it and after it."""

    before: str
    after: str
    name_key: str
    arguments_key: str

    def grammar(self, functions: Sequence[Turn]) -> str:
        """Return the Lark grammar of a call to one of the functions."""
        calls = [
            {
                "type": "object",
                "properties": {
                    self.name_key: {"const": function["name"]},
                    self.arguments_key: function.get("parameters") or {"type": "object"},
                },
                "required": [self.name_key, self.arguments_key],
                "additionalProperties": False,
            }
            for function in functions
        ]
        before, after = (f" {json.dumps(mark)} " if mark else "" for mark in (self.before, self.after))
        schema = {"anyOf": calls, "x-guidance": JSON_OPTIONS}
        return f"start:{before or ' '}call{after}\ncall: %json {json.dumps(schema)}"

    def read(self, text: str, names: Sequence[str]) -> list[Call]:
        """Return the calls that a text consists of; none when anything in it is not a call to one of the functions."""
        calls = []
        while text.strip():
            call, text = self._read_one(text.lstrip(), names)
            if call is None:
                return []
            calls.append(call)
        return calls

    def _read_one(self, text: str, names: Sequence[str]) -> tuple[Call | None, str]:
        before, after = self.before.strip(), self.after.strip()
        try:
            value, end = json.JSONDecoder().raw_decode(text.removeprefix(before).lstrip())
        except (ValueError, RecursionError):
            return None, text
        rest = text.removeprefix(before).lstrip()[end:].lstrip().removeprefix(after)
        if not text.startswith(before) or not isinstance(value, dict):
            return None, text
        name, arguments = value.get(self.name_key), value.get(self.arguments_key)
        if not isinstance(name, str) or name not in names or not isinstance(arguments, dict):
            return None, text
        return Call(name, json.dumps(arguments, ensure_ascii=False)), rest


class CallReader:
    """Passes an answer's text on up to where calls may begin, and reads them when it has ended: `most`, or all."""

    def __init__(self, written: CallFormat, names: Sequence[str], most: int | None = None) -> None:
        self._format = written
        self._names = names
        self._most = most
        self._text = ""
        self._passed_on = 0

    def push(self, text: str) -> str:
        """Add text, and return what is certainly no call."""
        self._text += text
        start, self._passed_on = self._passed_on, max(self._passed_on, self._certain())
        return self._text[start : self._passed_on]

    def finish(self) -> tuple[str, list[Call]]:
        """Return the calls, or the text that is left when it has none."""
        held = self._text[self._passed_on :]
        calls = self._format.read(held, self._names)
        return ("" if calls else held), calls[: self._most]

    def _certain(self) -> int:
        """Return how much of the text is no call; where calls have no mark, one is an answer that begins with JSON."""
        mark = self._format.before.strip()
        if not mark:
            return 0 if self._text.lstrip()[:1] in ("", "{") else len(self._text)
        at = self._text.find(mark)
        return at if at >= 0 else len(self._text) - overlap(self._text, mark)


def find_call_format(translator: ChatTranslator) -> CallFormat | None:
    """Return how the base's template writes a call, found by letting it write one; None when it has no place for it.

    Nor does a call count that is marked by special tokens: an answer's text has none.
    """
    question = {"role": "user", "content": "Hello"}
    call = {"id": "call00000", "type": "function", "function": {"name": PROBE, "arguments": PROBE_ARGUMENTS}}
    answer = {"role": "assistant", "content": "", "tool_calls": [call]}
    try:
        opening = translator.write([question], [PROBE_TOOL])
        whole = translator.write([question, answer], [PROBE_TOOL], add_generation_prompt=False)
    except ModelError:
        return None
    if PROBE not in opening or not whole.startswith(opening):
        return None
    written, _, _ = whole[len(opening) :].partition(translator.ending.strip())
    start = written.find("{")
    try:
        value, length = json.JSONDecoder().raw_decode(written[max(0, start) :])
    except ValueError:
        return None
    before, after = written[:start], written[start + length :]
    keys = {json.dumps(held): key for key, held in value.items()}
    name, arguments = keys.get(json.dumps(PROBE)), keys.get(json.dumps(PROBE_ARGUMENTS))
    if name is None or arguments is None or any(special in before + after for special in translator.specials):
        return None
    return CallFormat(before, after, name, arguments)
