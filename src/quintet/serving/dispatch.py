"""Dispatch: finds who answers a question, an expert, the base or a provider."""

from functools import partial
from typing import Protocol

from quintet.config import EXPERT
from quintet.serving.answer import Answer
from quintet.serving.catalog import Model
from quintet.serving.fallback import FirstAnswer
from quintet.serving.generation import GenerationContext
from quintet.serving.providers.request import Asked
from quintet.serving.services import Services


class Question(Protocol):
    """What is asked of whom: a model by its name, and the words for each kind of those who may answer."""

    @property
    def model(self) -> str:
        """The name that is asked: a department, a version, or `base`."""

    @property
    def affinity_key(self) -> str:
        """What a conversation has from its start to its end, so that one version answers all of it."""

    @property
    def uses_token_ids(self) -> bool:
        """Whether it holds token ids, which mean something else to another model."""

    async def to_expert(self, context: GenerationContext, model: Model) -> Answer:
        """Word it for an expert or the base; nothing is generated yet. Raises RequestError for what it cannot."""

    def to_provider(self) -> Asked:
        """Word it for a provider."""


async def find_answer(ctx: Services, question: Question) -> Answer:
    """Return the answer to a question, before it has begun, of whoever the department's order says.

    Raises RequestError, or ModelError when nobody else could give it; where several may, their answer does.
    """
    sources = ctx.project.answered_by(question.model)
    if question.uses_token_ids:
        sources = sources[:1]
    makers = {source: partial(_answer_of, source, ctx, question) for source in sources}
    if len(makers) == 1:
        return await makers[sources[0]]()
    return FirstAnswer(question.model, makers, question.to_provider().count, ctx.metrics.fell_back)


async def _answer_of(source: str, ctx: Services, question: Question) -> Answer:
    if source != EXPERT:
        config = ctx.project.config.providers[source]
        return ctx.providers.answer(source, config, question.model, question.to_provider(), ctx.account)
    model = await ctx.catalog.open(question.model, question.affinity_key)
    return await question.to_expert(ctx.generation_context, model)
