"""Losses by hand arithmetic and against plain references, in float32."""

from math import exp, log
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import nn
from torch.nn.functional import log_softmax

from quintet.chat import IGNORED, Encoded
from quintet.config import Project
from quintet.evaluation.likelihood import answer_losses
from quintet.models.base_model import load_model
from quintet.training import arguments, run
from quintet.training.preparation import plan_run
from quintet.training.run import build_trainer, train
from quintet.training.trainers import CpuSftTrainer
from tests.training.test_every_method import configure


@pytest.fixture(autouse=True)
def _float32(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (arguments, run):
        monkeypatch.setattr(module, "has_fast_bfloat16", lambda _: False)


class FixedModel(nn.Module):
    """Says, at each place, logits that are given, through a head that changes nothing."""

    def __init__(self, logits: list[list[float]]) -> None:
        super().__init__()
        self._hidden_BTV = torch.tensor([logits])
        self._head = nn.Linear(2, 2, bias=False)
        nn.init.eye_(self._head.weight).requires_grad_(False)

    def get_output_embeddings(self) -> nn.Module:
        return self._head

    def forward(self, **_: Any) -> SimpleNamespace:
        return SimpleNamespace(logits=self._head(self._hidden_BTV))


def test_the_sft_loss_of_two_tokens_is_what_the_hand_works_out() -> None:
    # Of two tokens, the first place gives the second 3/4, the next gives the first 1/2; the prompt is not trained.
    model = FixedModel([[0.0, log(3)], [0.0, 0.0], [5.0, -5.0]])
    inputs = {"input_ids": torch.tensor([[0, 1, 0]]), "labels": torch.tensor([[IGNORED, 1, 0]])}
    trainer: Any = SimpleNamespace(accelerator=Accelerator(cpu=True))
    assert float(CpuSftTrainer.compute_loss(trainer, model, inputs)) == pytest.approx((log(4 / 3) + log(2)) / 2)
    shared = CpuSftTrainer.compute_loss(trainer, model, inputs, num_items_in_batch=torch.tensor(8))
    assert float(shared) == pytest.approx((log(4 / 3) + log(2)) / 8)


def test_the_loss_of_a_padded_batch_is_that_of_its_rows_alone(project: Project) -> None:
    plan = plan_run(configure(project, method="full"), "hr")
    trainer = build_trainer(plan, project.root / "run", "cpu")
    (batch,) = list(trainer.get_train_dataloader())
    assert len({len(row) for row in plan.rows["input_ids"]}) > 1  # some are padded
    got = trainer.compute_loss(trainer.model, dict(batch)).item()
    base, total, count = load_model(plan.source, "cpu"), 0.0, 0
    for row in plan.rows:
        logps_TV = log_softmax(base(torch.tensor([row["input_ids"]])).logits[0].detach().double(), dim=-1)
        trained = [(place, label) for place, label in enumerate(row["labels"]) if label != IGNORED]
        total -= sum(float(logps_TV[place - 1, label]) for place, label in trained)
        count += len(trained)
    assert got == pytest.approx(total / count, abs=1e-4)


def test_accumulating_gradients_changes_nothing_of_the_step(project: Project) -> None:
    weights = []
    for batch, accumulated in ((12, 1), (4, 3), (2, 6)):
        opened = configure(project, epochs=1, batch_size=batch, gradient_accumulation=accumulated, warmup=0)
        expert = train(opened, plan_run(opened, "hr"))
        weights.append(load_file(expert.folder / "adapter_model.safetensors"))
    for other in weights[1:]:
        for name, tensor in weights[0].items():
            torch.testing.assert_close(other[name], tensor, rtol=1e-3, atol=1e-5)


def pair_trainer(project: Project, loss: str) -> tuple[Any, Any]:
    """Return a DPO trainer whose policy has moved from its start, and its one batch."""
    text = '{"prompt": "Which day is pay day?", "chosen": "The 27th.", "rejected": "Never."}\n'
    other = '{"prompt": "Where may I park?", "chosen": "Behind.", "rejected": "In front."}\n'
    (project.root / "departments" / "hr.preferences.jsonl").write_text(text + other)
    opened = configure(
        project,
        {"preferences": "departments/hr.preferences.jsonl", "eval_fraction": 0.5},
        method="dpo",
        dpo={"start_from": "base", "beta": 0.3, "loss": loss},
    )
    trainer = build_trainer(plan_run(opened, "hr"), project.root / "run", "cpu")
    (batch,) = list(trainer.get_train_dataloader())
    torch.manual_seed(3)
    for name, parameter in trainer.model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.2)
    return trainer, batch


@pytest.mark.parametrize("loss", ["sigmoid", "hinge", "ipo"])
def test_the_preference_loss_is_what_the_hand_works_out(project: Project, loss: str) -> None:
    trainer, batch = pair_trainer(project, loss)
    got = trainer.compute_loss(trainer.model, dict(batch)).item()
    (row,) = trainer.train_dataset
    policy, base = trainer.model.eval(), load_model(project.config.base_model, "cpu")
    r = {}
    for kind in ("chosen", "rejected"):
        prompt, answer = row["prompt_ids"], row[f"{kind}_ids"]
        rows = [Encoded(prompt + answer, [IGNORED] * len(prompt) + answer)]
        r[kind] = answer_losses(base, rows).nats[0] - answer_losses(policy, rows).nats[0]
    beta, difference = 0.3, r["chosen"] - r["rejected"]
    per_token = r["chosen"] / len(row["chosen_ids"]) - r["rejected"] / len(row["rejected_ids"])
    expected = {
        "sigmoid": log(1 + exp(-beta * difference)),
        "hinge": max(0.0, 1 - beta * difference),
        "ipo": (per_token - 1 / (2 * beta)) ** 2,
    }
    assert abs(difference) > 0.1
    assert got == pytest.approx(expected[loss], abs=1e-4)


def test_the_loss_of_an_answer_of_two_tokens_is_what_the_hand_works_out() -> None:
    model: Any = FixedModel([[0.0, log(3)], [0.0, 0.0], [5.0, -5.0]])
    model.device = "cpu"
    losses = answer_losses(model, [Encoded([0, 1, 0], [IGNORED, 1, 0])])
    assert losses.nats == [pytest.approx(log(4 / 3) + log(2))]
    assert losses.tokens == [2]
    assert losses.perplexity == pytest.approx((4 / 3 * 2) ** 0.5)


def test_where_bfloat16_is_slow_the_adapters_of_a_quantised_base_are_float32_too(
    project: Project, tmp_path: Path
) -> None:
    plan = plan_run(configure(project, method="qlora"), "hr")
    model = build_trainer(plan, tmp_path, "cpu").model
    assert {weight.dtype for weight in model.parameters() if weight.requires_grad} == {torch.float32}
