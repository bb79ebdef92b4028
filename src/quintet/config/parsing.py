"""The text of a quintet.yaml → its sections, or every problem of it by line and key."""

import difflib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from quintet.config.departments import DepartmentConfig, FormatConfig
from quintet.config.evaluation import EvaluationConfig, GateConfig, JudgeConfig, SimilarityConfig
from quintet.config.providers import EXPERT, ProviderConfig
from quintet.config.router import RouterConfig
from quintet.config.section import EndpointSection, overlay
from quintet.config.serving import CacheConfig, RegistryConfig, ServingConfig
from quintet.config.training import DpoConfig, LoraConfig, PrefixConfig, TrainingConfig
from quintet.config.whole import BASE, Config
from quintet.errors import ConfigError

WINDOWS_NAMES = frozenset("con prn aux nul".split()) | {f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10)}
"""No folder may have such a name there, and a department has folders."""
RESERVED_NAMES = frozenset({BASE, "models", "infer", "ask", "auto", "router", "route", "feedback"})


def parse_config(text: str, path: Path) -> Config:
    """Validate the text of a quintet.yaml; raise ConfigError listing every problem with its line."""
    try:
        tree = yaml.compose(text)
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        raise ConfigError(f"{path}:{line}: not valid YAML: {getattr(error, 'problem', error)}") from None
    if repeated := list(_repeated_keys(tree)):
        raise ConfigError(
            "\n".join(f"{path}:{line}: the key {key!r} stands twice in one section" for line, key in repeated)
        )
    if not isinstance(values, dict):
        raise ConfigError(f"{path}:1: expected keys such as 'base_model:' and 'departments:', found {values!r}")
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(error, tree, path, ()))) from None
    problems = [line for name in config.departments for line in _check_department(name, config, tree, path)]
    problems += _check_default_model(config, tree, path)
    problems += _check_providers(config, tree, path)
    sections: dict[tuple[str, str], EndpointSection | None] = {
        ("evaluation", "judge"): config.evaluation.judge,
        ("evaluation", "similarity"): config.evaluation.similarity,
        ("serving", "transcription"): config.serving.transcription,
        **{("providers", name): section for name, section in config.providers.items()},
    }
    found = ((where, _endpoint_problem(section)) for where, section in sections.items() if section is not None)
    problems += [
        f"{path}:{_line_of(tree, (*where, problem[0]))}: {'.'.join(where)}.{problem[0]}: {problem[1]}"
        for where, problem in found
        if problem is not None
    ]
    if problems:
        raise ConfigError("\n".join(problems))
    return config


def _repeated_keys(node: yaml.Node | None) -> Iterator[tuple[int, str]]:
    """Yield line and name of each key that stands again in its section; YAML itself would keep the last in silence."""
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if key.value in seen:
                yield key.start_mark.line + 1, str(key.value)
            seen.add(key.value)
            yield from _repeated_keys(value)


def _check_default_model(config: Config, tree: yaml.Node | None, path: Path) -> list[str]:
    name = config.serving.default_model
    if name is None or name == BASE or name in config.departments:
        return []
    line = _line_of(tree, ("serving", "default_model"))
    known = ", ".join([*config.departments, BASE])
    return [f"{path}:{line}: serving.default_model: {name!r} is no department; expected one of: {known}"]


def _endpoint_problem(section: EndpointSection) -> tuple[str, str] | None:
    """Return the key that cannot stand, and why: not by pydantic, which shows what it found, and it may be a secret."""
    is_optional = isinstance(section, ProviderConfig)
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", section.key_name) and not (is_optional and section.key_name == ""):
        return "key_name", "expected the name of the variable that holds the key; keep the key itself out of this file"
    try:
        section.settings({})
    except ConfigError as error:
        return "url", str(error)
    return None


def _check_department(name: str, config: Config, tree: yaml.Node | None, path: Path) -> list[str]:
    where = ("departments", name)
    line = _line_of(tree, where)
    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", name):
        return [
            f"{path}:{line}: departments.{name}: a name is used in URLs and folders; "
            "use lower-case letters, digits, '-' and '_', starting with a letter"
        ]
    if name in RESERVED_NAMES:
        return [f"{path}:{line}: departments.{name}: this name is taken by the API; choose another"]
    if name in WINDOWS_NAMES:
        return [f"{path}:{line}: departments.{name}: on Windows no folder can have this name; choose another"]
    own = config.departments[name]
    problems = _check_answerers(name, config, tree, path)
    overlays: tuple[tuple[str, type[BaseModel], BaseModel, dict[str, Any]], ...] = (
        ("training", TrainingConfig, config.training, own.training),
        ("gate", GateConfig, config.evaluation.gate, own.gate),
    )
    for section, kind, below, above in overlays:
        try:
            kind.model_validate(overlay(below.model_dump(), above))
        except ValidationError as error:
            problems += _explain(error, tree, path, (*where, section))
    return problems


def _check_answerers(name: str, config: Config, tree: yaml.Node | None, path: Path) -> list[str]:
    """Return what is wrong with who answers for a department: each is to be known, and its expert needs data."""
    own, where = config.departments[name], ("departments", name, "answered_by")
    problems = []
    for place, source in enumerate(own.answered_by):
        start = f"{path}:{_line_of(tree, (*where, place))}: {'.'.join(where)}: "
        if source != EXPERT and source not in config.providers:
            known = [EXPERT, *config.providers]
            near = difflib.get_close_matches(source, known, 1)
            meant = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
            problems.append(start + f"there is no provider {source!r}; {meant}")
        elif source in own.answered_by[:place]:
            problems.append(f"{start}{source!r} stands twice; name each once")
    if own.has_expert and own.data is None:
        line = _line_of(tree, where[:2])
        problems.append(f"{path}:{line}: departments.{name}.data: this key is required and missing")
    return problems


def _check_providers(config: Config, tree: yaml.Node | None, path: Path) -> list[str]:
    """Return what is wrong with the providers' names."""
    return [
        f"{path}:{_line_of(tree, ('providers', name))}: providers.{name}: expected a name of letters, digits, '-', '_' "
        f"and '.', and not {EXPERT!r}, which is the department's own; choose another"
        for name in config.providers
        if name == EXPERT or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", name)
    ]


def _explain(error: ValidationError, tree: yaml.Node | None, path: Path, prefix: tuple[str | int, ...]) -> list[str]:
    """Return one line for each problem: file, line, key, what was expected and found, the nearest key."""
    lines = []
    for problem in error.errors():
        where = (*prefix, *problem["loc"])
        key = ".".join(map(str, where))
        start = f"{path}:{_line_of(tree, where)}: {key}: "
        if where[-1] == "[key]":
            lines.append(f"{start}a name must be text, found {problem['input']!r}; put it in quotes")
        elif problem["type"] == "extra_forbidden":
            lines.append(start + _unknown_key(str(where[-1]), _known_keys(where[:-1])))
        elif problem["type"] == "missing":
            lines.append(start + "this key is required and missing")
        elif problem["type"].startswith("byte_size"):
            lines.append(f"{start}expected a size such as 4GB or 512MB, found {problem['input']!r}")
        else:
            found = (
                "something else"
                if where[0] == "registry" or where in (("serving", "cache"), ("serving", "cache", "store"))
                else repr(problem["input"])
            )
            lines.append(f"{start}{problem['msg'].lower()}, found {found}")
    return lines


def _unknown_key(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, 1)
    return f"unknown key; did you mean {near[0]!r}?" if near else f"unknown key; known: {', '.join(known)}"


def _known_keys(where: tuple[str | int, ...]) -> list[str]:
    """Return the keys that the section at `where` may have."""
    sections: dict[str, type[BaseModel]] = {
        "training": TrainingConfig,
        "evaluation": EvaluationConfig,
        "gate": GateConfig,
        "serving": ServingConfig,
        "cache": CacheConfig,
        "router": RouterConfig,
        "registry": RegistryConfig,
        "lora": LoraConfig,
        "prefix": PrefixConfig,
        "dpo": DpoConfig,
        "format": FormatConfig,
        "judge": JudgeConfig,
        "similarity": SimilarityConfig,
    }
    if len(where) == 2 and where[0] in ("departments", "providers"):
        return list((DepartmentConfig if where[0] == "departments" else ProviderConfig).model_fields)
    section = sections.get(str(where[-1])) if where else Config
    return list(section.model_fields) if section else []


def _line_of(node: yaml.Node | None, where: tuple[str | int, ...]) -> int:
    """Return the line of the deepest key of `where` that the file has, counted from 1."""
    line = 1
    for step in where:
        if isinstance(node, yaml.MappingNode):
            found = next((pair for pair in node.value if pair[0].value == str(step)), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            found = (node.value[step], node.value[step])
        else:
            found = None
        if found is None:
            return line
        line, node = found[0].start_mark.line + 1, found[1]
    return line
