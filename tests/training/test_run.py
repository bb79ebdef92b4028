import json

import pytest
import torch
import yaml

from quintet.chat import IGNORED
from quintet.config import Project
from quintet.errors import DataError, TrainingError
from quintet.models.base_model import load_model
from quintet.registry.experts import Expert, newest_expert
from quintet.training.preparation import plan_run
from quintet.training.run import find_trained, train


def edit_config(project: Project, **training: object) -> Project:
    path = project.root / "quintet.yaml"
    values = yaml.safe_load(path.read_text())
    values["training"].update(training)
    path.write_text(yaml.safe_dump(values))
    return Project.load(project.root)


def test_a_run_leaves_an_expert_its_settings_and_its_metrics(trained: tuple[Project, Expert]) -> None:
    project, expert = trained
    run = project.runs / "hr" / "1"
    assert expert.folder == run / "expert"
    expert.check_files()
    assert yaml.safe_load((run / "config.yaml").read_text())["training"]["lora"]["rank"] == 8
    losses = [json.loads(line).get("loss") for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert losses[0] > losses[-2]


def test_what_is_trained_and_unchanged_is_found(trained: tuple[Project, Expert]) -> None:
    project, expert = trained
    assert find_trained(project, plan_run(project, "hr")) == expert


def test_nothing_is_found_for_another_department(trained: tuple[Project, Expert]) -> None:
    project, _ = trained
    assert find_trained(project, plan_run(project, "finance")) is None


def test_a_changed_setting_changes_the_fingerprint(project: Project) -> None:
    before = plan_run(project, "hr").fingerprint
    assert plan_run(edit_config(project, learning_rate=0.01), "hr").fingerprint != before


def test_changed_data_changes_the_fingerprint(project: Project) -> None:
    before = plan_run(project, "hr").fingerprint
    with (project.root / "departments" / "hr.jsonl").open("a") as stream:
        stream.write('{"question": "A new one?", "answer": "Yes."}\n')
    assert plan_run(project, "hr").fingerprint != before


def test_damaged_weights_are_not_taken_for_trained(project: Project) -> None:
    project = edit_config(project, epochs=1)
    plan = plan_run(project, "hr")
    expert = train(project, plan)
    (expert.folder / "adapter_model.safetensors").write_bytes(b"cut short")
    assert find_trained(project, plan) is None


def test_a_broken_row_stops_before_anything_is_made(project: Project) -> None:
    with (project.root / "departments" / "hr.jsonl").open("a") as stream:
        stream.write('{"question": "No answer?"}\n')
    with pytest.raises(DataError, match=r"hr.jsonl:13: found the fields 'question'"):
        plan_run(project, "hr")
    assert not project.runs.exists()


def test_the_same_seed_trains_the_same_weights(project: Project) -> None:
    project = edit_config(project, epochs=2)
    plan = plan_run(project, "hr")
    assert train(project, plan).digest == train(project, plan).digest
    newest = newest_expert(project, "hr")
    assert newest is not None
    assert newest.version == 2


def test_the_loss_is_the_mean_cross_entropy_of_the_trained_tokens(project: Project) -> None:
    # One batch holds all 12 rows, and an untrained LoRA changes nothing: the first loss can be had from the base.
    project = edit_config(project, epochs=1)
    plan = plan_run(project, "hr")
    train(project, plan)
    logged = json.loads((project.runs / "hr" / "1" / "metrics.jsonl").read_text().splitlines()[-1])["train_loss"]
    base = load_model(plan.source, "cpu")
    total, count = 0.0, 0
    for row in plan.rows:
        log_probs = base(torch.tensor([row["input_ids"]])).logits[0].detach().log_softmax(-1)
        for position, label in enumerate(row["labels"]):
            if label != IGNORED:
                total -= float(log_probs[position - 1, label])
                count += 1
    # The run computes in bfloat16 where the processor can.
    assert logged == pytest.approx(total / count, rel=0.02)


def test_weights_that_are_not_finite_are_no_expert(project: Project) -> None:
    project = edit_config(project, learning_rate=1e30, epochs=5)
    with pytest.raises(TrainingError, match=r"lower training.learning_rate \(it is 1e\+30\)"):
        train(project, plan_run(project, "hr"))
    assert newest_expert(project, "hr") is None


def test_the_adapters_config_depends_on_what_was_trained_alone(project: Project) -> None:
    project = edit_config(project, epochs=1)
    expert = train(project, plan_run(project, "hr"))
    settings = json.loads((expert.folder / "adapter_config.json").read_text())
    assert settings["target_modules"] == sorted(settings["target_modules"])
    assert settings["base_model_name_or_path"] == project.config.base_model


def test_a_row_too_long_for_the_base_stops_before_anything_is_made(project: Project) -> None:
    with (project.root / "departments" / "hr.jsonl").open("a") as stream:
        stream.write(json.dumps({"question": "Long?", "answer": "word " * 400}) + "\n")
    with pytest.raises(DataError, match=r"hr.jsonl:13: the row has \d+ tokens, the base's context holds 256"):
        plan_run(project, "hr")
    assert not project.runs.exists()


def test_progress_is_reported_step_by_step(project: Project) -> None:
    project = edit_config(project, epochs=3)
    steps: list[tuple[int, int]] = []
    train(project, plan_run(project, "hr"), lambda step, total, loss: steps.append((step, total)))
    assert steps == [(1, 3), (2, 3), (3, 3)]
