"""How near an answer is to its reference in meaning: the cosine of their embeddings, made by a model elsewhere."""

import asyncio
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from quintet.clients.openai import Endpoint, without_thoughts, work_through
from quintet.config.endpoint import EndpointSettings
from quintet.errors import EndpointError
from quintet.evaluation.results import Evaluation

BATCH = 64
"""Texts in a request."""
IN_FLIGHT = 4
DIGITS = 4

Vectors = Mapping[str, Sequence[float]]


def measure_similarity(evaluation: Evaluation, settings: EndpointSettings) -> Evaluation:
    """Return the evaluation with each contestant's similarity to the reference, item by item, from -1 to 1.

    References and answers are sent to the endpoint of `settings`, each text once; an empty one is not, and is
    similar to nothing: 0. Raises EndpointError when the endpoint cannot be used.
    """
    texts = list(dict.fromkeys(text for text in _texts(evaluation) if text))
    vectors = asyncio.run(_embed(texts, settings))
    similarity = {
        key: tuple(
            _similarity(vectors, without_thoughts(item.answers[key].text), item.reference.strip())
            for item in evaluation.items
        )
        for key in evaluation.names
    }
    return replace(evaluation, similarity=similarity, similarity_model=settings.model)


def mean_similarity(evaluation: Evaluation) -> dict[str, float]:
    """Return contestant → the mean over all items, for those that were measured."""
    return {key: fmean(values) for key, values in evaluation.similarity.items() if values}


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the cosine of the angle between two vectors of one length; 0 where one of them has no direction."""
    lengths = math.hypot(*one) * math.hypot(*other)
    product = math.fsum(a * b for a, b in zip(one, other, strict=True))
    return max(-1.0, min(1.0, product / lengths)) if lengths else 0.0


def _texts(evaluation: Evaluation) -> Iterator[str]:
    for item in evaluation.items:
        yield item.reference.strip()
        for key in evaluation.names:
            yield without_thoughts(item.answers[key].text)


async def _embed(texts: Sequence[str], settings: EndpointSettings) -> Vectors:
    vectors: dict[str, list[float]] = {}

    async def embed(batch: Sequence[str]) -> None:
        vectors.update(zip(batch, await endpoint.embed(batch), strict=True))

    async with Endpoint(settings) as endpoint:
        await work_through((texts[at : at + BATCH] for at in range(0, len(texts), BATCH)), embed, IN_FLIGHT)
    if len({len(vector) for vector in vectors.values()}) > 1:
        raise EndpointError(f"{settings.model!r} at {settings.shown_url} answered vectors of several lengths")
    return vectors


def _similarity(vectors: Vectors, answer: str, reference: str) -> float:
    if not answer or not reference:
        return 0.0
    return round(cosine(vectors[answer], vectors[reference]), DIGITS)
