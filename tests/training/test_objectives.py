import pytest
from transformers import PreTrainedTokenizerFast

from quintet.chat import ChatTranslator
from quintet.data.loading import Example, Message
from quintet.errors import DataError
from quintet.training.objectives import sft_dataset


def example(answer: str, line: int = 1) -> Example:
    return Example((Message("user", "When?"), Message("assistant", answer)), "g", line)


def test_a_row_carries_the_translators_ids_and_labels(tokenizer: PreTrainedTokenizerFast) -> None:
    translator = ChatTranslator(tokenizer)
    row = sft_dataset([example("Now.")], translator, 256, "hr.jsonl")[0]
    encoded = translator.encode_example(example("Now.").messages)
    assert (row["input_ids"], row["labels"]) == (encoded.ids, encoded.labels)


def test_rows_over_the_context_are_refused_by_line_never_cut(tokenizer: PreTrainedTokenizerFast) -> None:
    rows = [example("Now.", 1), example("now " * 300, 2)]
    with pytest.raises(DataError, match=r"hr.jsonl:2: the row has \d+ tokens, the base's context holds 64"):
        sft_dataset(rows, ChatTranslator(tokenizer), 64, "hr.jsonl")
