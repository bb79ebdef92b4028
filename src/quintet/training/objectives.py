"""What is minimised: examples → the columns that TRL's trainers take. Knows nothing of what is trained."""

from collections.abc import Sequence

from datasets import Dataset

from quintet.chat import ChatTranslator
from quintet.data.examples import Example
from quintet.errors import DataError


def sft_dataset(examples: Sequence[Example], translator: ChatTranslator) -> Dataset:
    """Return `input_ids` and `labels` for the cross-entropy of the answers; refuse preference rows."""
    pairs = [
        f"{example.place}: a preference row (prompt/chosen/rejected) has no answer to imitate; "
        "expected rows with one answer, such as question/answer"
        for example in examples
        if example.rejected is not None
    ]
    if pairs:
        raise DataError(pairs)
    encoded = translator.encode_examples([example.messages for example in examples])
    return Dataset.from_dict({"input_ids": [e.ids for e in encoded], "labels": [e.labels for e in encoded]})
