"""What is minimised: examples → the columns that TRL's trainers take. Knows nothing of what is trained."""

from collections.abc import Sequence

from datasets import Dataset

from quintet.chat import ChatTranslator
from quintet.data.loading import Example
from quintet.errors import DataError


def sft_dataset(examples: Sequence[Example], translator: ChatTranslator, context_length: int, source: str) -> Dataset:
    """Return `input_ids` and `labels` for the cross-entropy of the answers; refuse rows over the context length."""
    encoded = [translator.encode_example(example.messages) for example in examples]
    too_long = [
        f"{source}:{example.line}: the row has {len(row.ids)} tokens, the base's context holds {context_length}; "
        "shorten or split it"
        for example, row in zip(examples, encoded, strict=True)
        if len(row.ids) > context_length
    ]
    if too_long:
        raise DataError(too_long)
    return Dataset.from_dict({"input_ids": [e.ids for e in encoded], "labels": [e.labels for e in encoded]})
