"""The loss of an answer is the same alone and in a batch, for every kind of model, and never costs all logits."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config, LoraConfig, PrefixTuningConfig, PromptTuningConfig, TaskType, get_peft_model
from torch.nn.functional import log_softmax

from quintet.chat import IGNORED, Encoded
from quintet.evaluation import likelihood
from quintet.evaluation.likelihood import answer_losses
from quintet.models.base_model import load_model

ADAPTERS = {
    "base": None,
    "lora": LoraConfig(task_type=TaskType.CAUSAL_LM, r=4, target_modules="all-linear", init_lora_weights=False),
    "ia3": IA3Config(task_type=TaskType.CAUSAL_LM, init_ia3_weights=False),
    "prefix": PrefixTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=4),
    "prompt": PromptTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=4),
}


def row(prompt: list[int], answer: list[int]) -> Encoded:
    return Encoded(prompt + answer, [IGNORED] * len(prompt) + answer)


ROWS = [row([5, 60, 70], [80, 90, 2]), row([9], [10, 2]), row([5, 6, 7, 8, 9, 10, 11], [12]), row([3, 4], [5] * 9)]


@pytest.mark.parametrize("kind", ADAPTERS)
def test_a_batch_gives_what_each_row_gives_by_all_its_logits(tiny_base: Path, kind: str) -> None:
    torch.manual_seed(0)
    model: Any = load_model(str(tiny_base), "cpu")
    if (config := ADAPTERS[kind]) is not None:
        model = get_peft_model(model, config).eval()
    found = answer_losses(model, ROWS)
    assert found.tokens == [3, 2, 1, 9]
    for one, nats in zip(ROWS, found.nats, strict=True):
        with torch.inference_mode():
            logits_TV = model(input_ids=torch.tensor([one.ids])).logits[0, -len(one.ids) :]
        logps_TV = log_softmax(logits_TV.double(), dim=-1)
        start = len(one.prompt)
        expected = -sum(float(logps_TV[place - 1, one.ids[place]]) for place in range(start, len(one.ids)))
        assert nats == pytest.approx(expected, abs=1e-4)


def test_perplexity_is_of_all_tokens_together() -> None:
    # One row of two tokens at 1/2 each, one of one token at 1/8: the mean loss is (2 ln 2 + 3 ln 2) / 3.
    losses = likelihood.Losses([2 * 0.6931472, 3 * 0.6931472], [2, 1])
    assert losses.perplexity == pytest.approx(2 ** (5 / 3), rel=1e-5)


def test_batches_keep_within_every_bound_and_hold_each_row_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likelihood, "ROWS_AT_ONCE", 3)
    monkeypatch.setattr(likelihood, "PLACES_AT_ONCE", 24)
    monkeypatch.setattr(likelihood, "LOGITS_AT_ONCE", 1000)
    rows = [row([1] * (1 + n % 5), [2] * (1 + n % 3)) for n in range(40)]
    batches = list(likelihood._batches(rows, vocabulary=200))
    assert sorted(n for batch in batches for n in batch) == list(range(40))
    for batch in batches:
        assert len(batch) <= 3
        assert len(batch) * max(len(rows[n].ids) for n in batch) <= 24
        assert sum(len(rows[n].answer) for n in batch) * 200 <= 1000


def test_a_row_over_a_bound_stands_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likelihood, "LOGITS_AT_ONCE", 10)
    assert list(likelihood._batches(ROWS, vocabulary=400)) == [[1], [0], [2], [3]]
