"""Live project: quintet.yaml as it was read last, reloaded without a restart.

What outlives a request asks for it each time, so a reload holds from then on. A request keeps the project that it began
with.
"""

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import BaseModel

from quintet.config import Config, Project
from quintet.registry.audit import write_act
from quintet.registry.database import writing

logger = logging.getLogger("quintet.server")

HOT_RELOADABLE = ("departments", "providers", "training", "evaluation", "router")
"""The sections that hold at once; of the rest, the server is made when it starts."""


@dataclass(frozen=True)
class Change:
    """What became of the departments, and which keys hold only once the server is started again."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = [
            f"{kind} {', '.join(names)}" for kind in ("added", "changed", "removed") if (names := getattr(self, kind))
        ]
        said = "; ".join(parts) or "no department is another"
        return said + (f"; start again for: {', '.join(self.needs_restart)}" if self.needs_restart else "")


class LiveProject:
    """The project that is served."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self._reloading = asyncio.Lock()

    async def reload(self, by: str | None = None) -> Change:
        """Read quintet.yaml anew, note who wanted it, and take up what can be; return what is another.

        Raises ConfigError for a file that cannot be used, and UnreachableError when it cannot be noted: the old project
        stays then.
        """
        async with self._reloading:
            change, project = await asyncio.to_thread(self._read, by)
            self.project = project
        logger.info("quintet.yaml is read again: %s", change)
        return change

    def _read(self, by: str | None) -> tuple[Change, Project]:
        wanted = Project.load(self.project.root).config
        change = _compare(self.project.config, wanted)
        with writing(self.project) as session:
            write_act(session, "reload", by=by, **vars(change))
        config = self.project.config.model_copy(update={name: getattr(wanted, name) for name in HOT_RELOADABLE})
        return change, Project(self.project.root, config)


def _compare(before: Config, after: Config) -> Change:
    old, new = before.departments, after.departments
    return Change(
        added=tuple(name for name in new if name not in old),
        changed=tuple(name for name in new if name in old and new[name] != old[name]),
        removed=tuple(name for name in old if name not in new),
        needs_restart=tuple(_others(before, after)),
    )


def _others(before: Config, after: Config) -> Iterator[str]:
    """Yield the keys with another value, but those that are taken up."""
    for name in (name for name in Config.model_fields if name not in HOT_RELOADABLE):
        old, new = getattr(before, name), getattr(after, name)
        if isinstance(old, BaseModel) and isinstance(new, BaseModel):
            yield from (f"{name}.{key}" for key in type(old).model_fields if getattr(old, key) != getattr(new, key))
        elif old != new:
            yield name
