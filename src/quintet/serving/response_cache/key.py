"""Cache key: a digest of all that decides an answer.

A key is a digest, so that nobody who sees one can read the prompt from it.
"""

import hashlib
import json
from dataclasses import fields, replace

from quintet.engine.interface import Request, SamplingParams


def is_repeatable(sampling: SamplingParams) -> bool:
    """Whether the same settings give the same answer again: the likeliest tokens, or those of a seed.

    A mask that does not say what it holds the answer to could be any.
    """
    is_known = sampling.mask is None or sampling.grammar is not None
    return is_known and (sampling.temperature == 0 or sampling.seed is not None)


def key_of(request: Request, model: str) -> str:
    """Return the key of what `model`, which names base, precision and version, answers to a repeatable request.

    The department is in it though it decides nothing: of a department that a key may not ask it must not even show, by
    the time that an answer takes, that another department with the same expert was asked the same.
    """
    adapter = None if request.adapter is None else request.adapter.digest
    parts = [model, adapter, request.department, request.prompt_ids, request.end_ids, request.stop]
    sampling = request.sampling
    if sampling.temperature == 0:
        # Nothing is drawn, so what shapes a draw is the same whatever it is.
        sampling = replace(sampling, temperature=0.0, seed=None, top_p=1.0, top_k=0, min_p=0.0)
    sampling = replace(sampling, mask=None, logit_bias=tuple(sorted(sampling.logit_bias)))
    text = json.dumps([*parts, {each.name: getattr(sampling, each.name) for each in fields(sampling)}])
    return hashlib.sha256(text.encode()).hexdigest()
