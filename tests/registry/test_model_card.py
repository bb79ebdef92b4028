import re
import shutil
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub import ModelCard, ModelCardData
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token
from peft import LoraConfig, get_peft_model

from quintet.models.base_model import load_model, load_tokenizer
from quintet.registry.model_card import CardFacts, model_card

FACTS = CardFacts(
    department="hr",
    name="hr@3",
    company="Wrenfield Health",
    description="Leave, hours and pay",
    base_model="TinyLlama/TinyLlama-1.1B-Chat-v1.0",
    method="lora",
    objective="sft",
    is_adapter=True,
    parent=None,
    settings={"epochs": 5.0, "warmup": None, "packing": False, "lora": {"rank": 32, "targets": ["q", "v"]}},
    rows_trained=1200,
    rows_held_out=40,
    seconds=75.3,
    peak_bytes=None,
    environment={},
    data_digest="ab" * 32,
    digest="cd" * 32,
    scores={"f1": (0.1, 0.5234), "exact_match": (0.0, 0.25)},
)
HOSTILE = [
    "A\n---\n# B",
    "A\r\n---\r\nlicense: mit",
    "a: b",
    "a | b",
    "a \\| b \\",
    "```\nrm -rf\n```",
    "<img src=x onerror=alert(1)>",
    "![x](https://example.com/x.png)",
    "&lt; &#124; *b* _i_ ~~s~~ `c` $x$",
    "- a",
    "null",
    "\x00\x1b[31m\ud800",
    "a\u2028---\u2028b",
]


def front(card: str) -> dict[str, Any]:
    """Return the front matter as the hub reads it."""
    data: dict[str, Any] = ModelCard(card).data.to_dict()  # type: ignore[no-untyped-call]
    return data


def parse(card: str) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(ModelCard(card).text)


def structure(tokens: list[Token]) -> list[str]:
    """Return the kinds of a page's parts, blocks and what stands in them, without the text."""
    kinds = [[token.type, *(child.type for child in token.children or ())] for token in tokens]
    return [kind for part in kinds for kind in part]


def tables(card: str) -> dict[str, list[str]]:
    """Return what every table says: first cell → the others."""
    lines = [line for line in card.splitlines() if line.startswith("| ")]
    rows = [line.removeprefix("| ").removesuffix(" |").split(" | ") for line in lines]
    return {cells[0]: cells[1:] for cells in rows}


def code(card: str) -> str:
    found = re.search(r"```python\n(.*?)```", card, re.DOTALL)
    assert found is not None
    return found[1]


def test_an_adapters_front_matter_names_its_base() -> None:
    assert front(model_card(replace(FACTS, scores=None))) == {
        "library_name": "peft",
        "base_model": "TinyLlama/TinyLlama-1.1B-Chat-v1.0",
        "base_model_relation": "adapter",
        "pipeline_tag": "text-generation",
        "tags": ["quintet", "lora", "sft", "hr"],
    }


def test_full_weights_are_a_finetune_for_transformers() -> None:
    found = front(model_card(replace(FACTS, is_adapter=False, method="full")))
    assert (found["library_name"], found["base_model_relation"]) == ("transformers", "finetune")


def test_a_tag_stands_once() -> None:
    assert front(model_card(replace(FACTS, method="dpo", objective="dpo")))["tags"] == ["quintet", "dpo", "hr"]


def test_a_license_is_named_when_it_is_given() -> None:
    assert front(model_card(replace(FACTS, license="apache-2.0")))["license"] == "apache-2.0"


def test_the_hub_reads_the_experts_scores() -> None:
    data = ModelCard(model_card(FACTS)).data
    assert isinstance(data, ModelCardData)
    assert data.model_name == "hr@3"
    assert [(one.metric_type, one.metric_value) for one in data.eval_results or ()] == [
        ("f1", 0.5234),
        ("exact_match", 0.25),
    ]


def test_a_score_that_is_no_number_is_kept_from_the_hub() -> None:
    data = ModelCard(model_card(replace(FACTS, scores={"perplexity": (9.0, inf), "f1": (0.0, 0.5)}))).data
    assert isinstance(data, ModelCardData)
    assert [one.metric_type for one in data.eval_results or ()] == ["f1"]


@pytest.mark.parametrize("base", ["/srv/people/ann/bases/tiny", "~/bases/tiny", "./bases/tiny/", r"C:\bases\tiny"])
def test_a_base_in_a_folder_is_told_by_the_folders_name_alone(base: str) -> None:
    card = model_card(replace(FACTS, base_model=base))
    assert "base_model" not in front(card)
    assert tables(card)["Base model"] == ["tiny"]
    assert "bases" not in card


@pytest.mark.parametrize("hostile", HOSTILE)
def test_no_text_of_a_users_changes_the_front_matter(hostile: str) -> None:
    plain, found = (front(model_card(f)) for f in (FACTS, replace(FACTS, company=hostile, description=hostile)))
    named = found["model-index"][0]["results"][0]["dataset"].pop("name")
    del plain["model-index"][0]["results"][0]["dataset"]["name"]
    assert found == plain
    assert named.endswith(": held-out questions of hr")


@pytest.mark.parametrize("hostile", HOSTILE)
def test_no_text_of_a_users_changes_the_pages_structure(hostile: str) -> None:
    facts = replace(FACTS, company=hostile, description=hostile, settings={"note": hostile})
    plain = replace(FACTS, settings={"note": "a"})
    assert structure(parse(model_card(facts))) == structure(parse(model_card(plain)))


@settings(max_examples=60, deadline=None)
@given(st.text(st.sampled_from("ab|\\`*_[]()<>!~&#$-+=:'\"{}%@? \n\r\t\x85\u2028"), min_size=1, max_size=20))
def test_any_text_is_shown_as_it_was_written(text: str) -> None:
    words = " ".join(f"Say {text} now".split())
    tokens = parse(model_card(replace(FACTS, description=f"Say {text} now", settings={"note": f"Say {text} now"})))
    shown = ["".join(child.content for child in token.children or ()) for token in tokens if token.type == "inline"]
    assert f"Questions to the hr department of Wrenfield Health: {words}" in shown
    assert words in shown


def test_a_card_can_be_written_whatever_a_user_wrote() -> None:
    assert "\ud800" not in model_card(replace(FACTS, company="A\ud800\x00B")).encode().decode()


def test_the_card_says_how_the_expert_was_made() -> None:
    made = tables(model_card(replace(FACTS, parent="hr@2", peak_bytes=1_250_000_000)))
    assert {
        key: made[key][0] for key in ("Method", "Objective", "Started from", "Rows trained on", "Rows held out")
    } == {
        "Method": "lora",
        "Objective": "sft",
        "Started from": "hr@2",
        "Rows trained on": "1,200",
        "Rows held out": "40",
    }
    assert made["Peak memory"] == ["1.25 GB"]


def test_what_is_not_known_is_left_out() -> None:
    assert not {"Started from", "Peak memory", "Machine", "Versions"} & tables(model_card(FACTS)).keys()


@pytest.mark.parametrize(("seconds", "shown"), [(4.2, "4.2 s"), (75.3, "1 min 15 s"), (7384.0, "2 h 3 min")])
def test_a_time_is_shown_in_units_that_fit_it(seconds: float, shown: str) -> None:
    assert tables(model_card(replace(FACTS, seconds=seconds)))["Time"] == [shown]


def test_every_setting_is_shown_by_its_full_name() -> None:
    shown = tables(model_card(FACTS))
    assert {key: shown[key][0] for key in ("epochs", "warmup", "packing", "lora.rank", "lora.targets")} == {
        "epochs": "5.0",
        "warmup": "none",
        "packing": "false",
        "lora.rank": "32",
        "lora.targets": "q, v",
    }


def test_versions_and_machine_come_from_the_environment() -> None:
    environment = {"versions": {"python": "3.11.7", "torch": "2.9"}, "cpu": {"model": "EPYC", "cores": 2}, "gpus": []}
    shown = tables(model_card(replace(FACTS, environment=environment)))
    assert (shown["Versions"], shown["Machine"]) == (["python 3.11.7, torch 2.9"], ["EPYC, 2 cores"])


def test_gpus_stand_for_the_machine_where_there_are_any() -> None:
    environment = {"cpu": {"model": "EPYC", "cores": 2}, "gpus": [{"name": "H100"}, {"name": "H100"}]}
    assert tables(model_card(replace(FACTS, environment=environment)))["Machine"] == ["2 x H100"]


def test_scores_stand_beside_the_bases() -> None:
    shown = tables(model_card(FACTS))
    assert (shown["F1"], shown["Exact match"]) == (["0.100", "0.523"], ["0.000", "0.250"])


def test_an_expert_that_was_not_evaluated_says_so_and_names_the_command() -> None:
    card = model_card(replace(FACTS, scores=None))
    assert "It was not evaluated yet. To compare it with its base: `quintet evaluate hr@3`" in card


def test_the_digests_of_data_and_weights_are_told() -> None:
    shown = tables(model_card(FACTS))
    assert shown["Weights"] == ["cd" * 32]
    assert shown["Data"] == ["ab" * 32]


def test_an_adapters_code_answers_a_question(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(tiny_base, tmp_path / "base")
    model = get_peft_model(load_model(str(tiny_base), "cpu"), LoraConfig(task_type="CAUSAL_LM", r=2))
    model.save_pretrained(str(tmp_path))
    load_tokenizer(str(tiny_base)).save_pretrained(tmp_path)
    monkeypatch.chdir(tmp_path)
    run(code(model_card(replace(FACTS, base_model="base"))))
    assert capsys.readouterr().out.strip()


def test_the_code_of_full_weights_answers_a_question(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tiny_base)
    run(code(model_card(replace(FACTS, is_adapter=False))))
    assert capsys.readouterr().out.strip()


def test_the_code_ends_an_answer_where_training_did() -> None:
    assert "do_sample=False, eos_token_id=[2, 7])" in code(model_card(replace(FACTS, end_ids=(2, 7))))


def test_the_bundled_bases_code_finds_it() -> None:
    lines = code(model_card(replace(FACTS, base_model="nano"))).splitlines()
    loading = [line for line in lines if "importlib" in line or "transformers" in line or line.startswith("base =")]
    names = run("\n".join(loading))
    assert names["base"].config.model_type == "llama"


def run(source: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    torch.manual_seed(0)
    exec(source.replace("max_new_tokens=128", "max_new_tokens=4"), names)
    return names


def test_the_front_matter_is_the_first_thing_and_valid_yaml() -> None:
    _, block, _ = model_card(FACTS).split("---\n", 2)
    assert yaml.safe_load(block)["pipeline_tag"] == "text-generation"
