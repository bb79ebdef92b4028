import json
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, GenerationConfig

from quintet.chat import ChatTranslator
from quintet.config import Project, ServingConfig
from quintet.engine.interface import Adapter
from quintet.engine.precision import served_precision
from quintet.errors import DataError, MissingFilesError, ModelError
from quintet.evaluation.answering import greedy, served_answers
from quintet.evaluation.compare import evaluate, held_out_examples, read_evaluation
from quintet.models.base_model import load_model, load_tokenizer
from quintet.models.peft_model import load_expert_model
from quintet.registry.experts import Expert
from quintet.training.preparation import plan_run
from quintet.training.run import train


def test_batched_answers_are_those_given_one_by_one(tiny_base: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32).eval()
    prompts = [[5, 60, 70], [5, 60, 70, 80, 90, 100, 110], [9]]
    together = greedy(model, prompts, (2,), 12)
    assert together == [greedy(model, [prompt], (2,), 12)[0] for prompt in prompts]


def test_an_expert_that_learnt_its_facts_scores_above_its_base(trained: tuple[Project, Expert]) -> None:
    result = evaluate(*trained)
    assert result.scores["expert"]["f1"] > result.scores["base"]["f1"] + 0.5
    assert result.comparisons["base"].intervals["f1"].low > 0
    assert result.comparisons["base"].outcomes.wins == 4
    assert len(result.items) == 4
    assert result.items[0].answers["expert"].text == result.items[0].reference


def test_an_evaluation_is_kept_and_read_back(trained: tuple[Project, Expert]) -> None:
    assert read_evaluation(*trained) is None
    assert evaluate(*trained) == read_evaluation(*trained)


@pytest.mark.skipif(not torch.cpu._is_vnni_supported(), reason="this CPU has no VNNI instructions")
def test_what_is_evaluated_is_rounded_as_what_is_served(trained: tuple[Project, Expert]) -> None:
    project, expert = trained
    plain = evaluate(project, expert)
    in_int8 = project.config.model_copy(update={"serving": ServingConfig(precision="int8")})

    rounded = evaluate(Project(project.root, in_int8), expert)

    assert (rounded.precision, plain.precision) == ("int8", "float32")
    assert rounded.identity != plain.identity
    assert rounded.scores["expert"]["perplexity"] != plain.scores["expert"]["perplexity"]
    assert rounded.scores["expert"]["perplexity"] == pytest.approx(plain.scores["expert"]["perplexity"], rel=0.05)


def test_an_evaluation_of_other_questions_is_not_taken(trained: tuple[Project, Expert]) -> None:
    project, expert = trained
    evaluate(project, expert)
    with (project.root / "departments" / "hr.eval.jsonl").open("a") as stream:
        stream.write(json.dumps({"question": "Another?", "answer": "Yes."}) + "\n")
    assert read_evaluation(project, expert) is None


def test_progress_ends_at_both_answers_to_every_question(trained: tuple[Project, Expert]) -> None:
    seen: list[tuple[int, int]] = []
    evaluate(*trained, lambda done, total: seen.append((done, total)))
    assert seen == [(done, 8) for done in range(1, 9)]


def test_when_the_trained_data_has_changed_what_the_training_held_out_is_measured(
    trained: tuple[Project, Expert],
) -> None:
    project, expert = trained
    before = evaluate(project, expert)
    for name in ("hr.jsonl", "hr.eval.jsonl"):
        with (project.root / "departments" / name).open("a") as stream:
            stream.write(json.dumps({"question": f"Another, {name}?", "answer": "Yes."}) + "\n")
    assert evaluate(project, expert) == before


def test_held_out_questions_that_are_gone_are_an_error(trained: tuple[Project, Expert]) -> None:
    project, expert = trained
    expert.held_out.unlink()
    with (project.root / "departments" / "hr.jsonl").open("a") as stream:
        stream.write(json.dumps({"question": "Another?", "answer": "Yes."}) + "\n")
    with pytest.raises(DataError, match=r"held_out\.jsonl cannot be read"):
        evaluate(project, expert)


def test_another_base_is_refused(trained: tuple[Project, Expert]) -> None:
    project, expert = trained
    config = yaml.safe_load((project.root / "quintet.yaml").read_text())
    config["base_model"] = "nano"
    (project.root / "quintet.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(ModelError, match=r"'hr@1' was trained on the base .* and 'nano' is in use now"):
        evaluate(Project.load(project.root), expert)


def test_files_that_are_gone_are_named(trained: tuple[Project, Expert]) -> None:
    project, expert = trained
    (expert.folder / "adapter_model.safetensors").unlink()
    with pytest.raises(MissingFilesError, match=r"adapter_model.safetensors does not exist"):
        evaluate(project, expert)


def test_a_label_task_gets_scores_by_class(project: Project) -> None:
    words = {"yes": "sunny", "no": "rainy"}
    rows = [{"text": f"A {word} day, number {n}.", "label": label} for label, word in words.items() for n in range(8)]
    (project.root / "departments" / "hr.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = yaml.safe_load((project.root / "quintet.yaml").read_text())
    hr = config["departments"]["hr"]
    del hr["eval_data"]
    hr |= {"format": {"labels": ["label"], "instruction": "Will it be fine?"}, "eval_fraction": 0.25}
    (project.root / "quintet.yaml").write_text(yaml.safe_dump(config))
    project = Project.load(project.root)
    result = evaluate(project, train(project, plan_run(project, "hr")))
    scores = result.labels["expert"]
    assert [one.label for one in scores.classes] == ["no", "yes"]
    assert sum(one.support for one in scores.classes) == len(result.items) == 4
    assert result.scores["expert"]["accuracy"] == scores.accuracy >= 0.5
    assert result.labels["base"].no_label == 1.0
    assert result.scores["base"]["macro_f1"] == 0.0


def test_the_live_release_is_a_contestant_when_it_is_another(trained: tuple[Project, Expert]) -> None:
    project, first = trained
    second = train(project, plan_run(project, "hr"))
    result = evaluate(project, second, live=first)
    assert result.names == {"base": "base", "expert": "hr@2", "live": "hr@1"}
    assert result.comparisons["live"].outcomes.ties == 4
    assert (result.comparisons["live"].intervals["f1"].low, result.comparisons["live"].intervals["f1"].high) == (0, 0)
    assert "live" not in evaluate(project, first, live=first).names


def test_a_penalty_in_the_bases_generation_config_is_not_measured_since_it_is_not_served(
    trained: tuple[Project, Expert], tmp_path: Path
) -> None:
    project, expert = trained
    plain = evaluate(project, expert)
    source = Path(project.config.base_model)
    config = source / "generation_config.json"
    before = config.read_text() if config.exists() else None
    GenerationConfig(repetition_penalty=1.9, do_sample=False).save_pretrained(source)
    try:
        penalised = evaluate(project, expert)
    finally:
        config.unlink() if before is None else config.write_text(before)
    assert [item.answers for item in penalised.items] == [item.answers for item in plain.items]


def test_transformers_puts_a_generation_config_aside(tiny_base: Path) -> None:
    model = load_model(str(tiny_base), "cpu", torch.float32)
    prompts = [[5, 6, 7, 5, 6], [9, 9, 9]]
    plain = greedy(model, prompts, [0], 12)
    model.generation_config.repetition_penalty = 1.9
    assert greedy(model, prompts, [0], 12) == plain
    assert model.generation_config.repetition_penalty == 1.9


def test_the_engines_answers_are_those_of_transformers(trained: tuple[Project, Expert]) -> None:
    project, expert = trained
    translator = ChatTranslator(load_tokenizer(str(expert.folder)))
    prompts = [translator.encode_prompt(example.prompt) for example in held_out_examples(project, expert)]
    contestants = {"base": None, "expert": Adapter(expert.digest, expert.folder)}
    source = project.config.base_model
    served = served_answers(
        source, served_precision(project), contestants, prompts, translator.end_ids, 24, lambda _: None
    )
    base = load_model(source, "cpu", torch.float32)
    assert served["base"] == greedy(base, prompts, translator.end_ids, 24)
    assert served["expert"] == greedy(load_expert_model(expert.folder, base), prompts, translator.end_ids, 24)
