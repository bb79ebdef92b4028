"""The references that are made with the site: every command with all its options, every route, every schema."""

from typing import Any

import pytest

from tools.reference import api_page, cli_page, commands, openapi

COMMANDS = list(commands())


@pytest.fixture(scope="module")
def page() -> str:
    return cli_page()


@pytest.fixture(scope="module")
def description() -> dict[str, Any]:
    return openapi()


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=[" ".join(path) for path, _ in COMMANDS])
def test_a_command_is_there_with_all_that_its_help_names(path: tuple[str, ...], command: Any, page: str) -> None:
    section = page.partition(f"\n## {' '.join(path)}\n")[2].partition("\n## ")[0]
    context = command.context_class(command, info_name=path[-1])
    for parameter in command.get_params(context):
        names = [] if parameter.name == "help" else [*parameter.opts, *parameter.secondary_opts]
        for name in names:
            assert name.upper() in section.upper(), name
    assert command.help.strip().splitlines()[0] in section
    assert "[bold]" not in section


def test_every_route_and_every_schema_is_there(description: dict[str, Any]) -> None:
    page = api_page(description)
    for path, methods in description["paths"].items():
        for method in methods:
            assert f"\n### {method.upper()} {path}\n" in page
    for name in description["components"]["schemas"]:
        assert f"\n### {name}\n" in page


def test_every_field_of_a_schema_is_there_with_its_bounds(description: dict[str, Any]) -> None:
    section = api_page(description).partition("\n### Query\n")[2].partition("\n### ")[0]
    assert "| `query` | string, at least 1 long | required |" in section
    assert "| `max_tokens` | integer, from 1 to 4096 | `256` |" in section
