"""A Dockerfile as its stages, and which files of the project a builder is sent."""

import io
import json
import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from dockerfile_parse import DockerfileParser

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"


@dataclass
class Stage:
    """A part of a Dockerfile that begins with FROM."""

    base: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def values(self, instruction: str) -> list[str]:
        return [value for name, value in self.steps if name == instruction]

    def command(self, instruction: str) -> list[str]:
        """Return the words of a command in its exec form, the last one given."""
        (_, words) = self.values(instruction)[-1].split("[", 1)
        parsed: list[str] = json.loads(f"[{words}")
        return parsed

    def environment(self) -> dict[str, str]:
        return dict(re.findall(r"(\w+)=(\S+)", " ".join(self.values("ENV"))))

    def copied(self) -> list[tuple[str | None, list[str], str]]:
        """Return for each COPY the stage that it copies from, if any, its sources and its target."""
        found = []
        for value in self.values("COPY"):
            options = dict(re.findall(r"--(\w+)=(\S+)", value))
            *sources, target = [word for word in value.split() if not word.startswith("--")]
            found.append((options.get("from"), sources, target))
        return found


def read_stages() -> dict[str, Stage]:
    """Return the stages of deploy/Dockerfile by their names, in their order."""
    parser = DockerfileParser(fileobj=io.BytesIO(DOCKERFILE.read_bytes()))
    stages: dict[str, Stage] = {}
    for step in parser.structure:
        instruction, value = step["instruction"], step["value"]
        if instruction == "FROM":
            base, name = re.fullmatch(r"(\S+) AS (\S+)", value).groups()  # type: ignore[union-attr]
            stages[name] = Stage(base)
        elif stages and instruction != "COMMENT":
            next(reversed(stages.values())).steps.append((instruction, value))
    return stages


def read_arguments() -> dict[str, str]:
    """Return the ARGs of deploy/Dockerfile with their defaults."""
    return dict(re.findall(r"^ARG (\w+)=(\S+)$", DOCKERFILE.read_text(), re.MULTILINE))


def is_sent(path: str) -> bool:
    """Whether a builder gets a file: in .dockerignore, the last line that fits decides."""
    sent = True
    parents = [path, *(str(parent) for parent in Path(path).parents)][:-1]
    for line in (ROOT / ".dockerignore").read_text().split("\n"):
        pattern = line.removeprefix("!")
        if pattern and not pattern.startswith("#") and any(_fits(each, pattern) for each in parents):
            sent = line.startswith("!")
    return sent


def _fits(path: str, pattern: str) -> bool:
    if pattern.startswith("**/"):
        return fnmatchcase(Path(path).name, pattern.removeprefix("**/"))
    return path.count("/") == pattern.count("/") and fnmatchcase(path, pattern)
