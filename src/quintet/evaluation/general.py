"""Questions that no department has: what an expert forgets of its base's general sense shows on them."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from quintet.chat import ChatTranslator, Encoded
from quintet.config import Project
from quintet.data.examples import Example
from quintet.data.fitting import Fitter
from quintet.data.loading import load_examples
from quintet.models import base_model

GENERAL = Path(__file__).parent / "general.jsonl"


def general_examples(project: Project) -> Sequence[Example]:
    """Return the project's own general questions, or the forty that come with the package."""
    named = project.config.evaluation.general_data
    return _load(GENERAL if named is None else project.path(named))


@cache
def _load(path: Path) -> tuple[Example, ...]:
    return tuple(load_examples(path))


def encode_general(project: Project, translator: ChatTranslator) -> list[Encoded]:
    """Return the general questions with their answers as ids; those over the context are cut in the question."""
    source = base_model.locate(project.config.base_model, project.root)
    fitter = Fitter(translator, base_model.context_length(source), "truncate")
    fitted = fitter.fit_all(general_examples(project))
    return translator.encode_examples([example.messages for example in fitted.examples])
