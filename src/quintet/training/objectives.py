"""What is minimised: each objective as the rows that its trainer takes, ids already. Knows not what is trained."""

from collections.abc import Sequence
from typing import Literal

from datasets import Dataset

from quintet.chat import ChatTranslator, Encoded
from quintet.data.examples import Example
from quintet.data.fitting import Fitted
from quintet.errors import DataError

Objective = Literal["sft", "dpo"]


def rows_for(objective: Objective, fitted: Fitted, translator: ChatTranslator) -> Dataset:
    """Return the rows that the objective's trainer takes; refuse, by file and line, those that it cannot use."""
    return (dpo_dataset if objective == "dpo" else sft_dataset)(fitted, translator)


def sft_dataset(fitted: Fitted, translator: ChatTranslator) -> Dataset:
    """Return `input_ids` and `labels` for the cross-entropy of the answers; refuse preference rows."""
    examples = fitted.examples
    _refuse(
        [e for e in examples if e.rejected is not None],
        "a preference row (prompt/chosen/rejected) has no answer to imitate; expected rows with one answer, such as "
        "question/answer, or 'method: dpo'",
    )
    encoded = [one for (one,) in _encoded(fitted, translator)]
    return Dataset.from_dict({"input_ids": [e.ids for e in encoded], "labels": [e.labels for e in encoded]})


def dpo_dataset(fitted: Fitted, translator: ChatTranslator) -> Dataset:
    """Return `prompt_ids`, `chosen_ids` and `rejected_ids` for the preference loss (Rafailov et al. 2023)."""
    examples = fitted.examples
    _refuse(
        [e for e in examples if e.rejected is None],
        "a row with one answer is no preference; expected prompt, chosen and rejected",
    )
    encoded = _encoded(fitted, translator)
    chosen, rejected = [first for first, _ in encoded], [second for _, second in encoded]
    return Dataset.from_dict(
        {
            "prompt_ids": [e.prompt for e in chosen],
            "chosen_ids": [e.answer for e in chosen],
            "rejected_ids": [e.answer for e in rejected],
        }
    )


def _encoded(fitted: Fitted, translator: ChatTranslator) -> list[tuple[Encoded, ...]]:
    """Return the ids of each example; only what was cut or split is not tokenised yet."""
    missing = [example for example, known in zip(fitted.examples, fitted.encoded, strict=True) if not known]
    made = iter(translator.encode_examples([example.messages for example in missing]) if missing else [])
    pairs = [example for example in missing if example.rejected is not None]
    worse = iter(translator.encode_examples([example.rejected_messages for example in pairs]) if pairs else [])
    return [
        known or ((next(made),) if example.rejected is None else (next(made), next(worse)))
        for example, known in zip(fitted.examples, fitted.encoded, strict=True)
    ]


def _refuse(examples: Sequence[Example], why: str) -> None:
    if examples:
        raise DataError([f"{example.place}: {why}" for example in examples])
