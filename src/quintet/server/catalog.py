"""Names → models ready to answer: the registry, read anew for each request. Knows nothing of HTTP."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from quintet.base_model import base_digest, load_tokenizer, locate
from quintet.chat import ChatTranslator
from quintet.config import Project
from quintet.engine.base import Adapter, Engine
from quintet.errors import ModelError
from quintet.registry.experts import BASE, Expert, find_expert, list_experts, newest_expert

Status = Literal["loaded", "not loaded", "not trained"]


@dataclass(frozen=True)
class Model:
    """One that can be asked: its name as asked for, its expert (None is the bare base), its translator."""

    name: str
    expert: Expert | None
    translator: ChatTranslator

    @property
    def adapter(self) -> Adapter | None:
        """The expert as the engine knows it."""
        return None if self.expert is None else _adapter(self.expert)

    @property
    def expert_name(self) -> str | None:
        """The expert's version, as in `hr@1`."""
        return None if self.expert is None else self.expert.name


@dataclass(frozen=True)
class Entry:
    """One department of the project as it stands now; `problem` says why its expert cannot answer."""

    name: str
    expert: Expert | None
    status: Status
    problem: str | None = None


class Catalog:
    """Finds experts by name, and loads each once, with the tokenizer it was trained with."""

    def __init__(self, project: Project, engine: Engine) -> None:
        self._project = project
        self._engine = engine
        self._base = locate(project.config.base_model, project.root)
        self._translators: dict[tuple[str, str], ChatTranslator] = {}
        self._loading = asyncio.Lock()

    def find(self, name: str) -> Expert | None:
        """Return the expert of a name such as `hr` or `hr@1`, or None for `base`.

        Raises UnknownModelError, or NotTrainedError for a department without an expert.
        """
        return None if name == BASE else find_expert(self._project, name)

    async def open(self, name: str) -> Model:
        """Return the model of that name, loaded; raise ModelError when it cannot answer."""
        expert = self.find(name)
        if expert is not None:
            await self._check_base(expert)
        key = (expert.digest, str(expert.folder)) if expert else (BASE, self._base)
        if not self._is_ready(expert, key):
            async with self._loading:
                await self._load(expert, key)
        return Model(name, expert, self._translators[key])

    async def entries(self) -> list[Entry]:
        """Return every department of the project with its newest expert."""
        return [await self._entry(name) for name in self._project.config.departments]

    def loaded(self) -> list[str]:
        """Return the names of the experts that the engine holds."""
        held = self._engine.status.loaded
        names = []
        for department in self._project.config.departments:
            try:
                experts = list_experts(self._project, department)
            except ModelError:
                continue  # `entries` tells of it
            names += [expert.name for expert in experts if expert.digest in held]
        return names

    def _is_ready(self, expert: Expert | None, key: tuple[str, str]) -> bool:
        held = expert is None or expert.digest in self._engine.status.loaded
        return held and key in self._translators

    async def _load(self, expert: Expert | None, key: tuple[str, str]) -> None:
        """Load what is missing; whoever waited for the lock may find that nothing is."""
        if self._is_ready(expert, key):
            return
        if expert is not None:
            expert.check_files()
        source = self._base if expert is None else str(expert.folder)
        if key not in self._translators:
            self._translators[key] = await asyncio.to_thread(_load_translator, source)
        if expert is not None:
            await self._engine.load(_adapter(expert))

    async def _check_base(self, expert: Expert) -> None:
        # Hashing a base of some gigabytes takes seconds, the first time.
        running = await asyncio.to_thread(base_digest, self._base)
        expert.check_base(running, self._project.config.base_model)

    async def _entry(self, department: str) -> Entry:
        try:
            expert = newest_expert(self._project, department)
        except ModelError as error:
            return Entry(department, None, "not trained", str(error))
        if expert is None:
            return Entry(department, None, "not trained")
        if expert.digest in self._engine.status.loaded:
            return Entry(department, expert, "loaded")
        try:
            await self._check_base(expert)
            expert.check_files()
        except ModelError as error:
            return Entry(department, expert, "not loaded", str(error))
        return Entry(department, expert, "not loaded")


def _adapter(expert: Expert) -> Adapter:
    return Adapter(expert.digest, Path(expert.folder))


def _load_translator(source: str) -> ChatTranslator:
    return ChatTranslator(load_tokenizer(source))
