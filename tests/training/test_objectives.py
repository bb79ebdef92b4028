from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from quintet.chat import ChatTranslator
from quintet.data.examples import Example, Place
from quintet.data.fitting import Fitted
from quintet.errors import DataError
from quintet.messages import Message
from quintet.training.objectives import sft_dataset


def example(answer: str, rejected: str | None = None) -> Example:
    return Example((Message("user", "When?"), Message("assistant", answer)), "g", Place(Path("hr.jsonl"), 2), rejected)


def fitted(*examples: Example) -> Fitted:
    """Return rows that were cut, and so have no ids yet."""
    return Fitted(list(examples), [()] * len(examples))


def test_a_row_carries_the_translators_ids_and_labels(tokenizer: PreTrainedTokenizerFast) -> None:
    translator = ChatTranslator(tokenizer)
    row = sft_dataset(fitted(example("Now.")), translator)[0]
    encoded = translator.encode_example(example("Now.").messages)
    assert (row["input_ids"], row["labels"]) == (encoded.ids, encoded.labels)


def test_a_preference_is_refused_since_it_has_no_answer_to_imitate(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(DataError, match=r"hr.jsonl:2: a preference row"):
        sft_dataset(fitted(example("Now."), example("Now.", rejected="Never.")), ChatTranslator(tokenizer))
