"""Catalog: names to models that are ready to answer, by the registry as it is now.

A department is answered for by its live release; a version that is named, by that version.
"""

import asyncio
import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from quintet.chat import ChatTranslator
from quintet.config import BASE, EXPERT, Project
from quintet.engine.interface import Adapter, Engine
from quintet.errors import ModelError, NotReleasedError, NotTrainedError, QuintetError
from quintet.models.base_model import base_digest, locate
from quintet.registry.experts import Expert, fetch_expert, look_up
from quintet.registry.releases import Release, live, released_expert, why_not_released
from quintet.serving.live_project import LiveProject
from quintet.serving.request_record import note_model
from quintet.serving.tokenizers import TokenizerCache

Status = Literal["loaded", "not loaded", "not released", "not trained", "elsewhere"]
"""What is elsewhere is a provider's: here is no expert, and none is wanted."""


@dataclass(frozen=True)
class Model:
    """One that can be asked: its name as asked for, its expert (None is the bare base), its translator."""

    name: str
    expert: Expert | None
    translator: ChatTranslator

    @property
    def adapter(self) -> Adapter | None:
        """The expert as the engine knows it."""
        return None if self.expert is None else Adapter(self.expert.digest, Path(self.expert.folder))

    @property
    def expert_name(self) -> str | None:
        """The expert's version, as in `hr@1`."""
        return None if self.expert is None else self.expert.name


@dataclass(frozen=True)
class Entry:
    """One department of the project as it stands now: its release, the expert with the largest share of it.

    `problem` says why it cannot answer.
    """

    name: str
    expert: Expert | None
    status: Status
    problem: str | None = None
    release: Release | None = None


class Catalog:
    """Finds experts by name, with the tokenizer each was trained with.

    Which of them are in memory is the engine's affair: a request brings its expert in.
    """

    def __init__(self, current: LiveProject, engine: Engine) -> None:
        self._current = current
        self._seen: Project | None = None
        self._engine = engine
        self._base = locate(current.project.config.base_model, current.project.root)
        self._translators = TokenizerCache()
        self._fetching = asyncio.Lock()
        self._opened: dict[str, Expert] = {}

    def limited_to(self, project: Project) -> "Catalog":
        """Return the catalog of what is seen of the project; what is loaded for one is loaded for all."""
        seen = copy.copy(self)
        seen._seen = project
        return seen

    @property
    def _project(self) -> Project:
        return self._current.project if self._seen is None else self._seen

    def find(self, name: str, key: str = "") -> Expert | None:
        """Return the expert that answers to a name such as `hr` or `hr@1`, or None for `base`.

        Where a release is split, the key picks the version. Raises UnknownModelError, NotTrainedError for a department
        without an expert, NotReleasedError for one whose experts may not answer yet.
        """
        if name == BASE and BASE in self._project.models:
            return None
        return released_expert(self._project, name, key)

    async def open(self, name: str, key: str = "") -> Model:
        """Return the model of that name, with its files on this machine; raise ModelError when it cannot answer.

        `key` is what a conversation has from its start to its end, so that one version answers all of it.
        """
        expert = await asyncio.to_thread(self._find_whole, name, key)
        if expert is not None:
            if self._project.artifacts is not None and expert.digest not in self._engine.status.loaded:
                async with self._fetching:
                    await asyncio.to_thread(fetch_expert, self._project, expert)
                await asyncio.to_thread(expert.check_files)
            self._opened[expert.name] = expert
        source = (expert.digest, str(expert.folder)) if expert else (BASE, self._base)
        return Model(name, expert, await self._translators.of(source))

    def _find_whole(self, name: str, key: str) -> Expert | None:
        """Find an expert, and check all that can be checked here at once: each turn of a thread takes its time."""
        expert = self.find(name, key)
        note_model(expert)
        if expert is not None:
            expert.check_base(self.base_digest(), self._project.config.base_model)
            # One in memory needs its files no more.
            if self._project.artifacts is None and expert.digest not in self._engine.status.loaded:
                expert.check_files()
        return expert

    async def warm(self, name: str) -> None:
        """Load all that may answer to a name, so that nobody waits for it; a provider's is elsewhere."""
        if EXPERT not in self._project.answered_by(name):
            return
        release = None if name == BASE else await asyncio.to_thread(live, self._project, name)
        for each in [f"{name}@{version}" for version in release.versions] if release else [name]:
            model = await self.open(each)
            if model.adapter is not None:
                await self._engine.load(model.adapter)

    async def base_translator(self) -> ChatTranslator:
        """Return what turns text into the base's tokens; to know those, nobody needs to see the base."""
        return await self._translators.of((BASE, self._base))

    async def why_it_cannot_answer(self, expert: Expert) -> str | None:
        """Return what keeps an expert from answering here: another base, or files that are gone or changed."""
        problem = await self._problem([expert])
        if problem is None and expert.folder.exists() and not await asyncio.to_thread(lambda: expert.is_whole):
            return f"the files of {expert.name} are not those that were trained: quintet experts verify"
        return problem

    async def entries(self) -> list[Entry]:
        """Return every department of the project with what is released of it."""
        return [await self._entry(name) for name in self._project.config.departments]

    def loaded(self) -> list[str]:
        """Return the names of the experts that the engine holds; the registry need not be there for that."""
        held, seen = self._engine.status.loaded, self._project.config.departments
        experts = [each for each in self._opened.values() if each.digest in held and each.department in seen]
        return [each.name for each in sorted(experts, key=lambda each: (each.department, each.version))]

    def base_digest(self) -> str:
        """Return what identifies the base's files: seconds for some gigabytes, the first time."""
        return base_digest(self._base)

    async def _check_base(self, expert: Expert) -> None:
        running = await asyncio.to_thread(self.base_digest)
        expert.check_base(running, self._project.config.base_model)

    async def _entry(self, department: str) -> Entry:
        if EXPERT not in self._project.answered_by(department):
            return Entry(department, None, "elsewhere")
        try:
            release, experts = await asyncio.to_thread(self._released, department)
        except NotTrainedError:
            return Entry(department, None, "not trained")
        except NotReleasedError as error:
            return Entry(department, None, "not released", str(error))
        except QuintetError as error:
            return Entry(department, None, "not loaded", str(error))
        main = next(expert for expert in experts if expert.version == release.main)
        if all(expert.digest in self._engine.status.loaded for expert in experts):
            return Entry(department, main, "loaded", release=release)
        return Entry(department, main, "not loaded", await self._problem(experts), release)

    def _released(self, department: str) -> tuple[Release, list[Expert]]:
        release = live(self._project, department)
        if release is None:
            raise why_not_released(self._project, department)
        return release, [look_up(self._project, f"{department}@{version}") for version in release.versions]

    async def _problem(self, experts: list[Expert]) -> str | None:
        """Return why one of the experts could not be loaded, if that is so; what can be fetched is not fetched yet."""
        try:
            for expert in experts:
                await self._check_base(expert)
                if self._project.artifacts is None or expert.folder.exists():
                    expert.check_files()
        except ModelError as error:
            return str(error)
        return None
