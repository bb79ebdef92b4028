"""A project: the folder of a quintet.yaml, and where its things lie."""

import os
import re
from collections.abc import Callable
from pathlib import Path

from quintet.config.departments import DepartmentConfig
from quintet.config.evaluation import GateConfig
from quintet.config.parsing import parse_config
from quintet.config.providers import EXPERT
from quintet.config.section import overlay
from quintet.config.training import TrainingConfig
from quintet.config.whole import BASE, Config
from quintet.errors import ConfigError

CONFIG_NAME = "quintet.yaml"


class Project:
    """A folder with a quintet.yaml, and where its things lie."""

    def __init__(self, root: Path, config: Config, *, has_base: bool = True) -> None:
        self.root = root
        self.config = config
        self._has_base = has_base

    @classmethod
    def load(cls, root: Path) -> "Project":
        """Read `root`/quintet.yaml; raise ConfigError with line, key and fix when it cannot be used."""
        path = root / CONFIG_NAME
        if not path.is_file():
            raise ConfigError(f"{path} does not exist; make a project with: quintet init {root}")
        try:
            return cls(root, parse_config(path.read_text("utf-8"), path))
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path} is not UTF-8 at byte {error.start + 1}; save it as UTF-8") from None

    @property
    def models(self) -> list[str]:
        """The names that can be asked: those of the departments, and that of the bare base."""
        return [*self.config.departments, *([BASE] if self._has_base else [])]

    @property
    def trained(self) -> list[str]:
        """The names of the departments that have an expert, or are to have one."""
        return [name for name, section in self.config.departments.items() if section.has_expert]

    @property
    def with_data(self) -> list[str]:
        """The names of the departments that have questions of their own; where a provider answers, some have none."""
        return [name for name, section in self.config.departments.items() if section.data is not None]

    def answered_by(self, name: str) -> tuple[str, ...]:
        """Return who answers to a name, in the order in which they are asked: `expert`, or a provider's name."""
        section = self.config.departments.get(name)
        return section.answered_by if section else (EXPERT,)

    def model_elsewhere(self, name: str) -> str | None:
        """Return the model of the first provider that may answer to a name, if any may."""
        sources = [source for source in self.answered_by(name) if source != EXPERT]
        return self.config.providers[sources[0]].model if sources else None

    def visible_to(self, may_ask: Callable[[str], bool]) -> "Project":
        """Return the project as it is to someone who may ask only some of its models: the others are not there."""
        seen = {name: section for name, section in self.config.departments.items() if may_ask(name)}
        return Project(self.root, self.config.model_copy(update={"departments": seen}), has_base=may_ask(BASE))

    def department(self, name: str) -> DepartmentConfig:
        """Return the department, or raise ConfigError naming the ones there are."""
        if name not in self.config.departments:
            known = ", ".join(self.config.departments)
            raise ConfigError(f"{self.root / CONFIG_NAME} has no department {name!r}; it has: {known}")
        return self.config.departments[name]

    def data(self, name: str) -> Path:
        """Return what a department's expert learns from; raise ConfigError for a department without."""
        section = self.department(name)
        if section.data is None:
            raise ConfigError(
                f"{self.root / CONFIG_NAME}: department {name!r} is answered by {', '.join(section.answered_by)} and "
                "has no data; name its file under 'data:'"
            )
        return self.path(section.data)

    def training(self, name: str) -> TrainingConfig:
        """Return the project's training section with the department's own settings laid over it."""
        merged = overlay(self.config.training.model_dump(), self.department(name).training)
        return TrainingConfig.model_validate(merged)

    def gate(self, name: str) -> GateConfig:
        """Return the project's gate with the department's own rules laid over it."""
        merged = overlay(self.config.evaluation.gate.model_dump(), self.department(name).gate)
        return GateConfig.model_validate(merged)

    def path(self, relative: Path) -> Path:
        """Return a path of the config, which is relative to the project folder unless absolute."""
        return self.root / relative.expanduser()

    @property
    def runs(self) -> Path:
        """The folder of all runs: `runs/<department>/<version>`."""
        return self.root / "runs"

    @property
    def database(self) -> str | None:
        """The registry's database URL, if the config names one; raises ConfigError as `artifacts` does."""
        return _expand(self.config.registry.database, "registry.database")

    @property
    def artifacts(self) -> str | None:
        """The object store's URL, if the config names one; raises ConfigError for a variable that is not set."""
        return _expand(self.config.registry.artifacts, "registry.artifacts")

    @property
    def cache_store(self) -> str:
        """Where answers are kept: `memory`, `off`, or the URL of a Redis; raises ConfigError as `artifacts` does."""
        return _expand(self.config.serving.cache.store, "serving.cache.store") or "off"


def _expand(text: str | None, key: str) -> str | None:
    """Replace each ${NAME} by that environment variable."""
    if text is None:
        return None

    def value(found: re.Match[str]) -> str:
        if found[1] not in os.environ:
            raise ConfigError(f"{key}: the environment variable {found[1]} is not set; set it, or change the URL")
        set_ = os.environ[found[1]]
        # As a part of a URL, a password may not hold what ends one.
        return set_ if found[0] == text else set_.replace("%", "%25").replace("@", "%40")

    return re.sub(r"\$\{(\w+)\}", value, text)
