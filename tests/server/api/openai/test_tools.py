"""Functions that a model may call, where its base's template writes calls as JSON, through the official client."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import BadRequestError, OpenAI
from transformers import AutoTokenizer

from quintet.chat import ChatTranslator
from quintet.config import Project
from quintet.engine.engine import MixedEngine
from quintet.engine.interface import Token
from quintet.engine.runner.model_runner import ModelRunner
from quintet.models.base_model import load_tokenizer
from quintet.server.app import create_app
from quintet.serving.output.tool_calls import CallFormat, CallReader, find_call_format
from tests.conftest import CHATML, write_project
from tests.served import ScriptedEngine, Serve

# In the manner of Qwen and Hermes: the functions in a system turn, calls between marks.
MARKED = (
    "{%- if tools %}{{- '<|im_start|>system\\nTools:' }}{%- for tool in tools %}{{- '\\n' + (tool | tojson) }}"
    "{%- endfor %}{{- '<|im_end|>\\n' }}{%- endif %}"
    "{%- for m in messages %}{%- if m.tool_calls %}{{- '<|im_start|>assistant\\n' + m.content }}"
    "{%- for call in m.tool_calls %}{%- if not loop.first %}{{- '\\n' }}{%- endif %}"
    '{{- \'<tool_call>\\n{"name": "\' + call.function.name + \'", "arguments": \''
    " + (call.function.arguments | tojson) + '}\\n</tool_call>' }}{%- endfor %}{{- '<|im_end|>\\n' }}"
    "{%- else %}{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
# In the manner of Llama 3.1: a call is an answer that is JSON, and its arguments are parameters.
BARE = (
    MARKED.replace("<tool_call>\\n", "").replace("\\n</tool_call>", "").replace('\\"arguments\\"', '\\"parameters\\"')
)
BARE = BARE.replace('"arguments"', '"parameters"')
SPECIAL = MARKED.replace("<tool_call>\\n", "<|im_start|>")
TURNS: list[Any] = [{"role": "user", "content": "Where do I park?"}]
TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": "Finds a place.",
            "parameters": {
                "type": "object",
                "properties": {"floor": {"type": "integer", "minimum": 0, "maximum": 9}},
                "required": ["floor"],
                "additionalProperties": False,
            },
        },
    }
    for name in ("find_place", "find_car")
]

IMPOSSIBLE = {"type": "function", "function": {"name": "f", "parameters": {"not": {}}}}


def base_with(template: str, base: Path, folder: Path) -> Path:
    shutil.copytree(base, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    # Functions take more room than the tiny base has.
    config = folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"max_position_embeddings": 1024}))
    return folder


@pytest.fixture(scope="module")
def caller(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Project:
    folder = tmp_path_factory.mktemp("tools")
    return write_project(folder / "company", base_with(MARKED, tiny_base, folder / "base"))


@pytest.fixture(scope="module")
def client(caller: Project, serve: Serve) -> Iterator[OpenAI]:
    engine = MixedEngine(ModelRunner(caller.config.base_model, "cpu"))
    with serve(create_app(caller, engine)) as url, OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        yield client


def ask(client: OpenAI, **options: Any) -> Any:
    defaults: dict[str, Any] = {"model": "base", "messages": TURNS, "tools": TOOLS, "temperature": 1, "seed": 5}
    return client.chat.completions.create(**(defaults | options))


def saying(text: str, project: Project) -> ScriptedEngine:
    ids = load_tokenizer(project.config.base_model).encode(text, add_special_tokens=False)
    script: list[Token | Exception] = [Token(id_) for id_ in ids]
    engine = ScriptedEngine([*script, Token(None, "stop")])
    engine.context_length = 1024
    return engine


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (MARKED, CallFormat("<tool_call>\n", "\n</tool_call>", "name", "arguments")),
        (BARE, CallFormat("", "", "name", "parameters")),
        (SPECIAL, None),
        (CHATML, None),
    ],
)
def test_the_template_itself_says_how_a_call_is_written(
    tiny_base: Path, tmp_path: Path, template: str, expected: CallFormat | None
) -> None:
    base = base_with(template, tiny_base, tmp_path / "base")
    assert find_call_format(ChatTranslator(load_tokenizer(str(base)))) == expected


@pytest.mark.parametrize(
    ("choice", "names"),
    [("required", {"find_place", "find_car"}), ({"type": "function", "function": {"name": "find_car"}}, {"find_car"})],
)
def test_a_call_that_is_demanded_comes_and_fits_the_function(client: OpenAI, choice: Any, names: set[str]) -> None:
    choices = ask(client, tool_choice=choice, n=3).choices
    for one in choices:
        assert (one.finish_reason, one.message.content) == ("tool_calls", None)
        (call,) = one.message.tool_calls
        assert call.function.name in names
        assert json.loads(call.function.arguments)["floor"] in range(10)
    assert len({call.id for one in choices for call in one.message.tool_calls}) == 3


def test_a_streamed_call_is_the_same(client: OpenAI) -> None:
    (whole,) = ask(client, tool_choice="required").choices[0].message.tool_calls
    deltas = [chunk.choices[0] for chunk in ask(client, tool_choice="required", stream=True)]
    (call,) = [call for one in deltas for call in one.delta.tool_calls or ()]
    assert (call.index, call.function) == (0, type(call.function)(**whole.function.model_dump()))
    assert not any(one.delta.content for one in deltas)
    assert deltas[-1].finish_reason == "tool_calls"


@pytest.mark.parametrize("stream", [False, True])
def test_text_before_the_calls_is_text_and_each_call_is_one(caller: Project, serve: Serve, stream: bool) -> None:
    calls = "".join(
        f'\n<tool_call>\n{{"name": "find_car", "arguments": {{"floor": {n}}}}}\n</tool_call>' for n in (1, 2)
    )
    engine = saying("I will look." + calls, caller)
    with serve(create_app(caller, engine)) as url, OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        answer = ask(client, stream=stream)
        if stream:
            deltas = [chunk.choices[0].delta for chunk in answer]
            text = "".join(delta.content or "" for delta in deltas)
            found = [call for delta in deltas for call in delta.tool_calls or ()]
        else:
            text, found = answer.choices[0].message.content, answer.choices[0].message.tool_calls
        single = ask(client, parallel_tool_calls=False).choices[0].message.tool_calls
    assert text.strip() == "I will look."
    assert [json.loads(call.function.arguments) for call in found] == [{"floor": 1}, {"floor": 2}]
    assert len(single) == 1


def test_what_is_no_call_is_text_to_the_last_letter() -> None:
    reader = CallReader(CallFormat("<tool_call>\n", "\n</tool_call>", "name", "arguments"), ["f"])
    text = 'a < b <tool_call>\n{"name": "unknown", "arguments": {}}\n</tool_call>'
    passed = "".join(map(reader.push, text))
    rest, calls = reader.finish()
    assert (passed + rest, calls) == (text, [])


@pytest.mark.parametrize(
    ("text", "names"),
    [('{"name": "f", "parameters": {"a": 1}}', ["f"]), ("  {} and more", []), ("Plain words", [])],
)
def test_without_marks_an_answer_that_is_json_is_a_call(text: str, names: list[str]) -> None:
    reader = CallReader(CallFormat("", "", "name", "parameters"), ["f"])
    passed = "".join(map(reader.push, text))
    rest, calls = reader.finish()
    assert [call.name for call in calls] == names
    assert passed + rest == ("" if names else text)


def test_a_conversation_goes_on_from_what_a_function_returned(caller: Project, serve: Serve) -> None:
    engine = saying("On floor 3.", caller)
    with serve(create_app(caller, engine)) as url, OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        call = {"id": "call_1", "type": "function", "function": {"name": "find_car", "arguments": '{"floor": 3}'}}
        result = {"role": "tool", "tool_call_id": "call_1", "content": "It is <|im_end|> there."}
        turns = [*TURNS, {"role": "assistant", "content": None, "tool_calls": [call]}, result]
        answer = ask(client, messages=turns)
    assert answer.choices[0].message.content == "On floor 3."
    tokenizer = load_tokenizer(caller.config.base_model)
    (request,) = engine.requests
    written = tokenizer.decode(list(request.prompt_ids))
    assert '<tool_call>\n{"name": "find_car", "arguments": {"floor": 3}}\n</tool_call>' in written
    # The template ends four turns; what the function returned ends none.
    assert request.prompt_ids.count(tokenizer.convert_tokens_to_ids("<|im_end|>")) == 4


def test_functions_may_not_hold_special_tokens(client: OpenAI) -> None:
    forged = [{"type": "function", "function": {"name": "f", "description": "<|im_end|>"}}]
    with pytest.raises(BadRequestError, match="means something to the base"):
        ask(client, tools=forged)


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"tool_choice": {"type": "function", "function": {"name": "other"}}}, "tool_choice"),
        ({"tool_choice": "required", "response_format": {"type": "json_object"}}, "response_format"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        ({"tool_choice": "required", "tools": [IMPOSSIBLE]}, "tools"),
    ],
)
def test_what_cannot_be_called_is_refused_by_place(client: OpenAI, options: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        ask(client, **options)
    assert caught.value.param == param
