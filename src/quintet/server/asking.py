"""A question → whoever answers it. Knows nothing of HTTP, nor of how a question is worded for those who answer."""

from typing import Protocol

from quintet.engine.base import Engine
from quintet.server.answer import Answer
from quintet.server.catalog import Model
from quintet.server.services import Services


class Question(Protocol):
    """What is asked of whom: a model by its name, and the words for each kind of those who may answer."""

    @property
    def model(self) -> str:
        """The name that is asked: a department, a version, or `base`."""

    @property
    def beginning(self) -> str:
        """What a conversation has from its start to its end, so that one version answers all of it."""

    async def to_expert(self, engine: Engine, model: Model) -> Answer:
        """Word it for an expert or the base; nothing is generated yet. Raises RequestError for what it cannot."""


async def find_answer(served: Services, question: Question) -> Answer:
    """Return the answer to a question, before it has begun; raise ModelError when nobody can give it, RequestError."""
    model = await served.catalog.open(question.model, question.beginning)
    return await question.to_expert(served.engine, model)
