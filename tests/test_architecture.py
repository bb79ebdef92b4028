"""The tree is the architecture: which package may import which, read from the imports themselves.

The table is the one that docs/architecture.md shows. Imports inside functions and for type checkers count too.
"""

import ast
from collections import Counter, defaultdict
from collections.abc import Iterable
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "quintet"
PAGE = ROOT / "docs" / "architecture.md"

GROUND = ("errors", "messages", "files", "machine")
BELOW_DATA = (*GROUND, "chat", "config", "clients", "models", "registry")
BELOW_SERVING = (*BELOW_DATA, "data", "router", "engine", "training", "evaluation")
ALLOWED: dict[str, tuple[str, ...]] = {
    "errors": (),
    "messages": (),
    "machine": (),
    "files": ("errors",),
    "chat": ("errors", "messages"),
    "config": ("errors",),
    "clients": ("errors", "config"),
    "models": ("errors", "files"),
    "registry": (*GROUND, "config", "models"),
    "data": BELOW_DATA,
    "router": (*BELOW_DATA, "data"),
    "engine": (*GROUND, "config", "models"),
    "training": (*BELOW_DATA, "data"),
    "evaluation": (*BELOW_DATA, "data", "engine", "training"),
    "serving": (*BELOW_DATA, "router", "engine"),
    "server": (*BELOW_DATA, "data", "router", "engine", "serving"),
    "export": BELOW_SERVING,
    "cli": (*BELOW_SERVING, "serving", "server", "export"),
}
"""Package → the packages that it may import, beside itself. No arrow runs back up this list."""
MOST_CALLED_ONCE = 0.2
"""Share of all functions, to be lowered: a private helper is used twice, or names a real step."""
NO_HTTP = ("fastapi", "starlette", "uvicorn")
"""What nothing but the server may import."""


def modules(source: Path) -> dict[str, ast.Module]:
    """Return every module below the package by its dotted name."""
    found = {}
    for file in sorted(source.rglob("*.py")):
        name = ".".join((source.name, *file.relative_to(source).with_suffix("").parts)).removesuffix(".__init__")
        found[name] = ast.parse(file.read_text("utf-8"))
    return found


def imports(source: Path) -> dict[str, set[str]]:
    """Return the dotted names that each module imports; of our own, the module that a name comes from."""
    trees = modules(source)
    found: dict[str, set[str]] = {name: set() for name in trees}
    for name, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found[name].update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    whole = f"{node.module}.{alias.name}"
                    found[name].add(whole if whole in trees else node.module)
        found[name].discard(name)
    return found


def package(module: str) -> str:
    """Return the part of the tree that a module of ours is in; the version in `quintet` itself is nobody's."""
    return module.split(".")[1] if "." in module else ""


def back_arrows(source: Path) -> list[str]:
    """Return the imports that the table does not allow."""
    return [
        f"{module} imports {other}"
        for module, others in imports(source).items()
        for other in sorted(others)
        if other.startswith("quintet.")
        and package(module) not in ("", package(other))
        and package(other) not in ALLOWED[package(module)]
    ]


def circle(source: Path) -> list[str]:
    """Return modules that import each other, directly or not; none where there is no circle."""
    found = imports(source).items()
    graph = {name: [other for other in others if other.startswith("quintet")] for name, others in found}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_imports_point_down() -> None:
    assert back_arrows(SOURCE) == []


def test_the_table_has_every_package_and_no_arrow_that_runs_back() -> None:
    names = {path.stem for path in SOURCE.glob("[a-z]*.py")} | {
        path.parent.name for path in SOURCE.glob("*/__init__.py")
    }
    assert set(ALLOWED) == names - {"nano", "sample"}
    order = list(ALLOWED)
    assert all(order.index(other) < order.index(name) for name, others in ALLOWED.items() for other in others)


def test_no_modules_import_each_other() -> None:
    assert circle(SOURCE) == []


@pytest.mark.parametrize("line", ["from quintet.server.app import create_app", "import quintet.cli.console"])
def test_a_planted_back_arrow_is_found(tmp_path: Path, line: str) -> None:
    engine = tmp_path / "quintet" / "engine"
    engine.mkdir(parents=True)
    (engine / "engine.py").write_text(f"def start():\n    {line}\n")
    (found,) = back_arrows(tmp_path / "quintet")
    assert found.startswith("quintet.engine.engine imports quintet.")


def test_a_planted_circle_is_found(tmp_path: Path) -> None:
    data = tmp_path / "quintet" / "data"
    data.mkdir(parents=True)
    (data / "rows.py").write_text("from quintet.data.shapes import Shape\n")
    (data / "shapes.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import quintet.data.rows\n"
    )
    assert set(circle(tmp_path / "quintet")) == {"quintet.data.rows", "quintet.data.shapes"}


def test_only_the_server_knows_http() -> None:
    found = [
        f"{module} imports {other}"
        for module, others in imports(SOURCE).items()
        for other in others
        if other.split(".")[0] in NO_HTTP and package(module) != "server"
    ]
    assert found == []


def test_folders_are_small_enough_to_look_through() -> None:
    sizes = Counter(file.parent.relative_to(SOURCE).as_posix() for file in SOURCE.rglob("*.py"))
    assert {folder: size for folder, size in sizes.items() if size > 20} == {}


def test_no_class_name_means_two_things() -> None:
    places = defaultdict(list)
    for module, tree in modules(SOURCE).items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(module)
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def called_once(tree: ast.Module) -> list[str]:
    """Return the private functions of a module that one call in it uses, and nothing else there."""

    def names(nodes: Iterable[ast.AST]) -> Counter[str]:
        return Counter(
            node.id if isinstance(node, ast.Name) else node.attr
            for node in nodes
            if isinstance(node, ast.Name | ast.Attribute)
        )

    used = names(ast.walk(tree))
    called = names(node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    properties = {node.name for node in functions if "property" in map(ast.unparse, node.decorator_list)}
    private = [node.name for node in functions if node.name.startswith("_") and not node.name.startswith("__")]
    return [name for name in private if used[name] == 1 and (called[name] == 1 or name in properties)]


def test_few_functions_are_private_helpers_called_once() -> None:
    trees = modules(SOURCE)
    functions = sum(isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef) for t in trees.values() for n in ast.walk(t))
    once = [f"{module}.{name}" for module, tree in trees.items() for name in called_once(tree)]
    assert len(once) < MOST_CALLED_ONCE * functions, f"{len(once)} of {functions}: {', '.join(once)}"


def test_the_page_shows_the_table() -> None:
    table = PAGE.read_text("utf-8").split("<!-- arrows -->")[1].split("<!-- /arrows -->")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.strip().splitlines()[2:]]
    shown = {name.strip("`"): set(others.replace("`", "").split(", ")) - {"nothing"} for name, _, others in rows}
    assert shown == {name: set(others) for name, others in ALLOWED.items()}
