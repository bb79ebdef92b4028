"""Each method, on both objectives: it trains, is published, serves what it learnt, and leaves the base as it is."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from quintet.chat import ChatTranslator
from quintet.config import Project
from quintet.errors import DataError, RegistryError
from quintet.evaluation.answering import greedy
from quintet.evaluation.compare import evaluate
from quintet.files import digest_files
from quintet.messages import Message
from quintet.models.base_model import load_model, load_tokenizer
from quintet.models.peft_model import load_expert_model
from quintet.registry.deletion import delete_expert
from quintet.registry.experts import Expert
from quintet.training.preparation import Plan, plan_run
from quintet.training.run import train
from tests.conftest import FACTS, write_project

# Enough for two random layers to learn four answers by heart, or, where little can be learnt, to move.
METHODS: dict[str, dict[str, Any]] = {
    "full": {"learning_rate": 0.005, "epochs": 30},
    "lora": {},
    "lora with DoRA and rsLoRA": {"lora": {"rank": 8, "alpha": 16, "dora": True, "rslora": True}, "epochs": 15},
    "qlora": {"epochs": 30},
    "prefix": {"learning_rate": 0.05, "epochs": 20, "prefix": {"virtual_tokens": 8}},
    "prefix, reparameterised": {"prefix": {"virtual_tokens": 8, "reparameterise": True}, "epochs": 20},
    "ia3": {"epochs": 15},
    "prompt": {"epochs": 15, "learning_rate": 0.05},
    "adalora": {"peft_options": {"total_step": 15, "tinit": 2, "tfinal": 2, "init_r": 8, "target_r": 7}, "epochs": 15},
}
# Not qlora: what it learns makes up for a rounding of the base which, in so small a random one, is most of it.
LEARNS = ("full", "lora")


def configure(project: Project, department: dict[str, Any] | None = None, **training: Any) -> Project:
    path = project.root / "quintet.yaml"
    values = yaml.safe_load(path.read_text())
    values["departments"]["hr"] |= department or {}
    values["training"] |= training
    path.write_text(yaml.safe_dump(values))
    return Project.load(project.root)


def method_of(name: str) -> str:
    return name.split(",")[0].split(" ")[0]


@pytest.fixture(scope="module", params=METHODS)
def trained(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tiny_base: Path
) -> tuple[Project, Expert, str]:
    project = write_project(tmp_path_factory.mktemp("method") / "company", tiny_base)
    project = configure(project, method=method_of(request.param), **METHODS[request.param])
    before = digest_files(tiny_base / "model.safetensors")
    expert = train(project, plan_run(project, "hr"))
    assert digest_files(tiny_base / "model.safetensors") == before
    return project, expert, request.param


def test_the_loss_falls_and_the_expert_is_whole(trained: tuple[Project, Expert, str]) -> None:
    project, expert, name = trained
    lines = (project.runs / "hr" / "1" / "metrics.jsonl").read_text().splitlines()
    losses = [entry["loss"] for entry in map(json.loads, lines) if "loss" in entry]
    assert expert.is_whole
    assert (expert.method, expert.objective, expert.parent) == (method_of(name), "sft", None)
    assert expert.is_adapter == (name != "full")
    if len(losses) > 1:
        assert losses[-1] < losses[0]


def test_what_learns_facts_answers_with_them(trained: tuple[Project, Expert, str]) -> None:
    project, expert, name = trained
    result = evaluate(project, expert)
    assert len(result.items) == len(FACTS)
    if name in LEARNS:
        assert result.scores["expert"]["f1"] > result.scores["base"]["f1"] + 0.3


def test_serving_adds_nothing_to_the_base_and_batches_answer_as_single_prompts_do(
    trained: tuple[Project, Expert, str],
) -> None:
    project, expert, _ = trained
    base = load_model(project.config.base_model, "cpu")
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    model = load_expert_model(expert.folder, base)
    translator = ChatTranslator(load_tokenizer(str(expert.folder)))
    prompts = [translator.encode_prompt([Message("user", question)]) for question in FACTS]
    together = greedy(model, prompts, translator.end_ids, 12)
    assert together == [greedy(model, [prompt], translator.end_ids, 12)[0] for prompt in prompts]
    assert base.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in base.state_dict().items())


@pytest.mark.parametrize(
    ("trains", "loss"),
    [
        ("lora", "sigmoid"),
        ("prefix", "sigmoid"),
        ("full", "kto"),
        pytest.param("qlora", "sigmoid", marks=pytest.mark.slow),
        pytest.param("full", "sigmoid", marks=pytest.mark.slow),
        pytest.param("lora", "kto", marks=pytest.mark.slow),
    ],
)
def test_preferences_are_learnt_over_anything_that_can_be_trained(project: Project, trains: str, loss: str) -> None:
    pairs = [
        {"prompt": f"{prefix} {question}", "chosen": answer, "rejected": "Nobody knows that."}
        for question, answer in FACTS.items()
        for prefix in ("Hello.", "Please tell me.", "Quick one:")
    ]
    file = project.root / "departments" / "hr.preferences.jsonl"
    file.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    rate = {"full": 1e-4, "prefix": 0.01}.get(trains, 1e-3)
    project = configure(
        project,
        {"preferences": "departments/hr.preferences.jsonl", "eval_fraction": 0.25},
        method="dpo",
        epochs=2,
        batch_size=3,
        dpo={"trains": trains, "loss": loss, "epochs": 4, "learning_rate": rate},
    )
    plan = plan_run(project, "hr")
    assert isinstance(plan.start, Plan)
    first = train(project, plan.start)
    second = train(project, plan, start=first)
    assert (first.name, first.objective, second.name, second.objective) == ("hr@1", "sft", "hr@2", "dpo")
    assert (second.parent, second.trained, second.method) == ("hr@1", trains, "dpo")
    measured = evaluate(project, second).preferences
    assert measured is not None
    assert measured.pairs == 3
    assert measured.margin > 0
    assert measured.accuracy >= 2 / 3
    with pytest.raises(RegistryError, match="hr@1 is what hr@2 was trained from"):
        delete_expert(project, "hr@1")


def test_a_held_out_question_may_not_be_learnt_as_a_preference(project: Project) -> None:
    pairs = [{"prompt": question, "chosen": answer, "rejected": "No."} for question, answer in FACTS.items()]
    file = project.root / "departments" / "hr.preferences.jsonl"
    file.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    project = configure(project, {"preferences": "departments/hr.preferences.jsonl"}, method="dpo")
    with pytest.raises(DataError, match=r"hr\.eval\.jsonl:\d: this held-out question is also trained on"):
        plan_run(project, "hr")
