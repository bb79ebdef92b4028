"""What can be looked up, made from the code when the site is built: all commands, from their help, and all routes.

A hook of mkdocs (see mkdocs.yml) adds them to the pages: `cli.md`, `api-reference.md`, and `openapi.json`. As they are
never kept, they are never old. Knows no command and no route by name.
"""

import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from typer.main import get_command

from quintet import cli
from quintet.config import Project
from quintet.server.app import create_app

SMALLEST = "company: your company\ndepartments: {hr: {description: Leave and pay, data: hr.jsonl}}\n"


class NoEngine:
    """Stands where the engine stands, and is asked nothing: the description of the API needs no model."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the references to the pages, as mkdocs asks its hooks to."""
    description = openapi()
    made = {
        "cli.md": cli_page(),
        "api-reference.md": api_page(description),
        "openapi.json": json.dumps(description, indent=1, ensure_ascii=False) + "\n",
    }
    for name, content in made.items():
        files.append(File.generated(config, name, content=content))
    return files


def openapi() -> dict[str, Any]:
    """Return the OpenAPI description that a server gives at /openapi.json."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "quintet.yaml").write_text(SMALLEST, "utf-8")
        app = create_app(Project.load(Path(folder)), NoEngine())  # type: ignore[arg-type]
        return app.openapi()


# Commands


def commands(command: Any = None, path: tuple[str, ...] = ("quintet",)) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every command that does something, under its path, in the order of the help."""
    command = command or get_command(cli.app)
    if not hasattr(command, "commands"):
        yield path, command
        return
    for name, inner in command.commands.items():
        yield from commands(inner, (*path, name))


def cli_page() -> str:
    """Return the reference of all commands, as Markdown."""
    parts = [
        "# Commands\n\n`quintet COMMAND --help` says the same in the terminal. `quintet --version` prints the "
        "version.\n\nExit codes: 0 when all went well, 1 for what went wrong in a run or for findings that stop one,\n"
        "2 for the command line and `quintet.yaml`, 3 for data, 4 for models, 5 and 6 for requests, 7 for training,\n8 "
        "for the registry, 9 where the gate blocks, 10 for export.\n"
    ]
    for path, command in commands():
        context = command.context_class(command, info_name=path[-1])
        told, usage = _markdown(command.help), _usage(path, command, context)
        parts.append(f"## {' '.join(path)}\n\n{told}\n\n{usage}\n{_table(command, context)}")
    return "\n".join(parts)


def _usage(path: tuple[str, ...], command: Any, context: Any) -> str:
    words = [_word(p) for p in command.get_params(context) if p.param_type_name == "argument"]
    return f"```text\n{' '.join([*path, '[OPTIONS]', *words])}\n```\n"


def _word(argument: Any) -> str:
    word = argument.name.upper() + ("..." if argument.nargs == -1 else "")
    return word if argument.required else f"[{word}]"


def _table(command: Any, context: Any) -> str:
    rows = [_parameter(p, context) for p in command.get_params(context) if p.name != "help"]
    return "| argument or option | default | what it is |\n|---|---|---|\n" + "\n".join(rows) + "\n" if rows else ""


def _parameter(parameter: Any, context: Any) -> str:
    left, told = parameter.get_help_record(context)
    if parameter.param_type_name == "argument":
        names = parameter.name.upper()
    else:
        names = ", ".join((*parameter.opts, *parameter.secondary_opts)) + _value(left)
    default = re.search(r"\[(?:default: )?\(?([^;\]]*?)\)?(?:; [^\]]*)?\]$", told)
    text = told[: default.start()] if default else told
    return f"| `{names}` | {default[1] if default else ''} | {_cell(_markdown(text))} |"


def _value(left: str) -> str:
    """Return what follows an option, from what its help says, in whose notation the versions of typer differ."""
    kind = re.split(r"--[\w-]+", left)[-1].strip(" <>[]").lower()
    if "|" in kind:
        return " " + kind.replace("|", ",")
    names = {"int": "NUMBER", "float": "NUMBER", "path": "PATH", "": ""}
    return (
        f" {next((word for start, word in names.items() if start and kind.startswith(start)), 'TEXT')}" if kind else ""
    )


def _markdown(text: str | None) -> str:
    """Turn rich's markup into Markdown, and the examples into code."""
    plain = re.sub(r"\[bold\](.*?)\[/(?:bold)?\]", r"**\1**", (text or "").strip())
    return re.sub(
        r"(?<=Example:\*\* |xamples:\*\* )(.+)", lambda m: " · ".join(f"`{x}`" for x in m[1].split(" · ")), plain
    )


# The API


def api_page(description: dict[str, Any]) -> str:
    """Return the reference of all routes and of what they take and give, as Markdown."""
    parts = [
        "# API reference\n\nEvery route, what it takes and what it gives, from the server's own description: "
        "[openapi.json](openapi.json),\nwhich a running server gives at `/openapi.json` and shows at `/docs`. "
        "[HTTP API](api.md) says what the fields mean.\n"
    ]
    groups: dict[str, list[str]] = {}
    for path, methods in description["paths"].items():
        for method, route in methods.items():
            groups.setdefault(route["tags"][0], []).append(_route(method, path, route))
    parts += [f"## {name[0].upper() + name[1:]}\n\n" + "\n".join(routes) for name, routes in groups.items()]
    schemas = description["components"]["schemas"]
    parts.append("## Schemas\n\n" + "\n".join(_schema(name, schemas[name]) for name in sorted(schemas)))
    return "\n".join(parts)


def _route(method: str, path: str, route: dict[str, Any]) -> str:
    lines = [f"### {method.upper()} {path}\n", f"{route['summary']}.\n"]
    if body := route.get("requestBody"):
        lines.append(f"Takes {_content(body['content'])}.\n")
    lines.append("| status | gives | when |\n|---|---|---|")
    for status, response in sorted(route["responses"].items()):
        told = response["description"].removeprefix("Successful Response")
        lines.append(f"| {status} | {_content(response.get('content', {}))} | {_cell(told)} |")
    return "\n".join(lines) + "\n"


def _content(content: dict[str, Any]) -> str:
    return " or ".join(
        _type(kind["schema"]) + ("" if name == "application/json" else f" (`{name}`)")
        if kind.get("schema") else f"`{name}`"
        for name, kind in content.items()
    )  # fmt: skip


def _schema(name: str, schema: dict[str, Any]) -> str:
    lines = [f"### {name}\n"]
    if told := schema.get("description"):
        lines.append(f"{told}\n")
    required = schema.get("required", [])
    if fields := schema.get("properties"):
        lines.append("| field | type | default | what it is |\n|---|---|---|---|")
        lines += [_field(field, value, field in required) for field, value in fields.items()]
    return "\n".join(lines) + "\n"


def _field(name: str, value: dict[str, Any], required: bool) -> str:
    default = "required" if required else f"`{json.dumps(value['default'])}`" if "default" in value else ""
    return f"| `{name}` | {_type(value)} | {default} | {_cell(value.get('description', ''))} |"


def _type(schema: dict[str, Any]) -> str:
    if reference := schema.get("$ref"):
        name = reference.rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if options := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(dict.fromkeys(_type(option) for option in options))
    if "enum" in schema:
        return ", ".join(f"`{json.dumps(value)}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}{_bounds(schema)}"
    return f"{schema.get('type', 'anything')}{_bounds(schema)}"


def _bounds(schema: dict[str, Any]) -> str:
    words = {
        "minimum": "from {}", "exclusiveMinimum": "above {}", "maximum": "to {}", "exclusiveMaximum": "below {}",
        "minLength": "at least {} long", "maxLength": "at most {} long", "minItems": "at least {}",
        "maxItems": "at most {}",
    }  # fmt: skip
    told = [text.format(f"{schema[key]:g}") for key, text in words.items() if key in schema]
    return f", {' '.join(told)}" if told else ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
