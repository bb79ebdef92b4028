"""Asks one question of a project, here and now, without a server."""

from quintet.config import Project
from quintet.engine.interface import Engine, SamplingParams
from quintet.messages import Message
from quintet.serving.answer import Answer
from quintet.serving.catalog import Catalog
from quintet.serving.generation import GenerationContext, prepare_answer
from quintet.serving.live_project import LiveProject


async def ask(project: Project, engine: Engine, name: str, question: str, sampling: SamplingParams) -> Answer:
    """Return the answer of a department, a version or `base`, not begun yet; raise ModelError when it has none."""
    model = await Catalog(LiveProject(project), engine).open(name, question)
    return await prepare_answer(GenerationContext(engine), model, [Message("user", question)], sampling)
