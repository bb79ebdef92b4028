"""Whatever the documentation shows is right: commands are of this program, configs load, JSON fits, Python runs."""

import json
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer
import yaml
from typer.main import get_command

from quintet import cli
from quintet.config.departments import FormatConfig
from quintet.config.parsing import parse_config
from quintet.config.whole import Config
from quintet.data.shapes import RowError, candidates, find_shape
from quintet.engine.engine import MixedEngine
from quintet.engine.runner.model_runner import ModelRunner
from quintet.errors import ConfigError
from quintet.server.app import create_app
from tests.cli.conftest import Shell
from tests.conftest import write_project
from tests.docs.blocks import ROOT, Block, blocks_of, commands_of, is_followed, pages
from tests.served import _make_expert, _serve
from tools.reference import openapi

USAGE_ERROR: Any = typer.BadParameter.__base__
BLOCKS = [block for page in pages() for block in blocks_of(page)]
SHOWN = {"text", "http"}
SHELLS = {"bash", "console"}
FOREIGN = {"dockerfile", "powershell", "ini", "nginx", "hcl"}
LOCAL = re.compile(r"http://127\.0\.0\.1:8000(/[^\s?]*)")


def of(*languages: str) -> pytest.MarkDecorator:
    chosen = [block for block in BLOCKS if block.language in languages]
    return pytest.mark.parametrize("block", chosen, ids=str)


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_says_what_it_is(block: Block) -> None:
    assert block.language in {"json", "yaml", "python", *SHOWN, *SHELLS, *FOREIGN}


def test_blocks_that_are_not_run_say_why() -> None:
    comments = [block.comment for block in BLOCKS if block.comment and block.comment != "run this page"]
    unknown = [text for text in comments if not re.match(r"(not run|(json|yaml) of another program): \w", text)]
    assert unknown == []


# Commands


@of(*SHELLS)
def test_commands_are_ones_that_there_are(block: Block) -> None:
    for words in commands_of(block):
        check_command(words, strange=not block.is_run)


def check_command(words: list[str], *, strange: bool) -> None:
    """Fail where a command of this project is wrong; others than these may only stand in blocks that are not run."""
    program = words[0].replace("\\", "/").rpartition("/")[2].removesuffix(".exe")
    if program == "quintet":
        parse(words[1:])
    elif "quintet.cli" in words:
        parse(words[words.index("quintet.cli") + 1 :])
    elif program == "curl" and any(LOCAL.match(word) for word in words):
        check_request(words)
    elif program == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
        assert [word for word in words[1:] if "=" not in word and word not in targets] == []
    elif program == "pip" and words[1] == "install":
        for extra in re.findall(r"(?:quintet|\.)\[([\w,]+)\]", " ".join(words)):
            assert set(extra.split(",")) <= extras(), extra
    elif program.startswith("python") and words[1] == "-m":
        assert (ROOT / Path(*words[2].split("."))).with_suffix(".py").exists() or (
            ROOT / Path(*words[2].split(".")) / "__main__.py"
        ).exists(), words[2]
    else:
        assert strange or program in {"cd", "kill", "echo", "python"}, f"{words[0]}: is it run? say so above the block"


def parse(words: list[str], *, whole: bool = True) -> None:
    """Parse a command line as the command does, and do nothing; `whole` is whether arguments may not be missing."""
    command: Any = root()
    path = ["quintet"]
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        assert words[0] in command.commands, f"{' '.join(path)} has no {words[0]!r}"
        command, path, words = command.commands[words[0]], [*path, words[0]], words[1:]
    if hasattr(command, "commands"):
        assert not whole or words in (["--help"], ["--version"]), f"{' '.join(path)} what?"
        return
    try:
        command.make_context(path[-1], list(words))
    except USAGE_ERROR as error:
        if whole or type(error).__name__ != "MissingParameter":
            pytest.fail(f"{' '.join([*path, *words])}: {error.format_message()}")
    except typer.Exit:
        pass  # --help


@cache
def root() -> Any:
    return get_command(cli.app)


@cache
def extras() -> set[str]:
    section = (ROOT / "pyproject.toml").read_text("utf-8").partition("[project.optional-dependencies]")[2]
    return set(re.findall(r"^(\w+) = \[", section.partition("\n[")[0], re.MULTILINE))


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_within_sentences_are_ones_that_there_are(page: Path) -> None:
    text = re.sub(r"^[ ]*```.*?^[ ]*```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for said in re.findall(r"`((?:\.venv[/\\]\S+[/\\])?quintet [^`]+)`", text):
        if "..." not in said and "COMMAND" not in said:
            parse(shlex.split(" ".join(said.split()))[1:], whole=False)


# Requests and answers


@cache
def description() -> dict[str, Any]:
    return openapi()


def check_request(words: list[str]) -> None:
    """Fail unless the route of a curl command is there, and takes what is sent."""
    (path,) = (found[1] for word in words if (found := LOCAL.match(word)))
    sent = next((words[i + 1] for i, word in enumerate(words) if word in ("-d", "--data")), None)
    method = next((words[i + 1] for i, word in enumerate(words) if word == "-X"), "GET" if sent is None else "POST")
    routes = {re.sub(r"\{\w+\}", "[^/]+", route): operations for route, operations in description()["paths"].items()}
    # Routes that are spelled out come first.
    fitting = [routes[pattern] for pattern in sorted(routes, key=lambda p: "[" in p) if re.fullmatch(pattern, path)]
    assert path in ("/mcp", "/openapi.json", "/docs") or fitting, f"there is no {path}"
    if sent is not None and fitting:
        body = fitting[0][method.lower()]["requestBody"]["content"]["application/json"]["schema"]
        fits(json.loads(sent), body)


def fits(value: Any, schema: dict[str, Any]) -> None:
    jsonschema.validate(value, {**schema, "components": description()["components"]})


@of("json")
def test_json_is_a_row_of_data_or_what_the_server_takes_or_gives(block: Block) -> None:
    for value in values_of(block.text):
        if block.is_of_another_program or is_row(value):
            continue
        named = [
            schema for schema in description()["components"]["schemas"].values()
            if value.keys() <= schema.get("properties", {}).keys() and set(schema.get("required", ())) <= value.keys()
        ]  # fmt: skip
        assert named, f"no schema has the fields {sorted(value)}"
        fits(value, {"anyOf": named})


def values_of(text: str) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects of a text, one after the other."""
    decoder, rest = json.JSONDecoder(strict=False), text.strip()
    while rest:
        value, end = decoder.raw_decode(rest)
        yield value
        rest = rest[end:].strip()


def is_row(value: dict[str, Any]) -> bool:
    settings = FormatConfig()
    try:
        return find_shape(frozenset(value), settings, candidates(settings)) is not None
    except RowError:
        return False


# Configs


@of("yaml")
def test_yaml_is_a_part_of_a_project_that_loads(block: Block) -> None:
    written = yaml.safe_load(block.text)
    if block.is_of_another_program:
        return
    assert written.keys() <= Config.model_fields.keys()
    missing = {"description": "A department.", "data": "departments/any.jsonl"}
    departments = written.get("departments") or {"hr": {}}
    for name, section in departments.items():
        answered = {} if section.get("answered_by") else {"data": missing["data"]}
        departments[name] = {"description": missing["description"], **answered, **section}
    named = {source for section in departments.values() for source in section.get("answered_by", [])} - {"expert"}
    providers = {name: {"url": "http://127.0.0.1:1/v1", "model": "any"} for name in named}
    whole = {**written, "departments": departments, "providers": providers | (written.get("providers") or {})}
    parse_config(yaml.safe_dump(whole, sort_keys=False), Path(block.page))


# Python


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Iterator[str]:
    project = write_project(tmp_path_factory.mktemp("docs") / "company", tiny_base)
    _make_expert(project)
    engine = MixedEngine(ModelRunner(project.config.base_model, "cpu"))
    with _serve(create_app(project, engine)) as url:
        yield url


@of("python")
def test_python_runs_against_a_server(block: Block, served: str, capsys: pytest.CaptureFixture[str]) -> None:
    script = block.text.replace("http://127.0.0.1:8000", served)
    exec(compile(script, str(block), "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out.strip()


# Pages that are followed


@pytest.mark.parametrize("page", [page for page in pages() if is_followed(page)], ids=lambda page: page.name)
def test_a_page_is_followed_from_top_to_bottom_in_an_empty_folder(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run = Shell(capsys)
    for block in blocks_of(page):
        if block.title:
            Path(block.title).write_text(block.text, "utf-8")
        for words in commands_of(block) if block.language == "bash" and block.is_run else []:
            assert words[0] == "quintet", f"{block}: only commands of quintet are run"
            code, _, err = run(*words[1:])
            assert code == 0, f"{block}: {shlex.join(words)}: {err}"


# The checks themselves


def wrong(language: str, text: str) -> Block:
    return Block("page.md", 1, language, None, "", text)


@pytest.mark.parametrize("text", [
    "quintet trane hr", "quintet train hr --metod lora", "quintet release hr three", "quintet export", "quintet data",
    "KEY=$(quintet keys make)", "make quickstrat", "pip install 'quintet[redys]'", "python -m benchmarks.rooter",
    "terraform apply", "quintet serve && kubectl get pods", "curl http://127.0.0.1:8000/v2/models",
    "curl http://127.0.0.1:8000/api/hr -d '{\"question\": \"Who?\"}'",
])  # fmt: skip
def test_a_command_that_there_is_not_is_found(text: str) -> None:
    with pytest.raises((AssertionError, pytest.fail.Exception, jsonschema.ValidationError)):
        test_commands_are_ones_that_there_are(wrong("bash", text))


def test_a_key_that_there_is_not_is_found() -> None:
    with pytest.raises(ConfigError):
        test_yaml_is_a_part_of_a_project_that_loads(wrong("yaml", "serving: {prot: 8000}"))


@pytest.mark.parametrize("text", ['{"model": "hr", "answer": 1}', '{"question": "Who?", "anwser": "I."}'])
def test_json_that_nobody_takes_or_gives_is_found(text: str) -> None:
    with pytest.raises(AssertionError):
        test_json_is_a_row_of_data_or_what_the_server_takes_or_gives(wrong("json", text))
