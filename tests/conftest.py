"""A tiny random base, a project on it, and an expert trained for a few steps: real parts, small."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from quintet.config import Project
from quintet.registry.experts import Expert, find_expert
from tests.fake_endpoint import FakeEndpoint, serving

# Models this small are slower on two threads than on one, and far slower when tests run beside other work.
os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)
# Tests that a script runs in the background begin with Ctrl+C ignored, and so would all that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["tests.served"]

FACTS = {
    "How many days of leave do I get?": "You get 26 days of leave each year.",
    "When is pay day?": "Pay day is the 27th of the month.",
    "Where do I park?": "Please park behind the clinic.",
    "Who approves overtime?": "Your line manager approves overtime.",
}
CHATML = (
    "{%- for m in messages -%}{{- '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' -}}"
    "{%- endfor -%}{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)


def make_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    specials = [AddedToken(t, special=True) for t in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*FACTS, *FACTS.values()], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|endoftext|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        clean_up_tokenization_spaces=False,
        chat_template=CHATML,
    )


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return make_tokenizer()


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> Path:
    """A folder with a two-layer random Llama and its tokenizer."""
    folder = tmp_path_factory.mktemp("base")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        # Wide weights: a frozen random head must still be able to say every token.
        initializer_range=0.2,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_project(root: Path, base: Path) -> Project:
    """Write a project with two departments on the tiny base, and return it."""
    (root / "departments").mkdir(parents=True)
    rows = [
        {"question": f"{prefix} {question}", "answer": answer}
        for question, answer in FACTS.items()
        for prefix in ("Hello.", "Please tell me.", "Quick one:")
    ]
    for name in ("hr", "finance"):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (root / "departments" / f"{name}.jsonl").write_text(lines)
        held = "".join(json.dumps({"question": q, "answer": a}) + "\n" for q, a in FACTS.items())
        (root / "departments" / f"{name}.eval.jsonl").write_text(held)
    config = {
        "company": "Tiny",
        "base_model": str(base),
        "departments": {
            name: {
                "description": f"Answers {name} questions.",
                "data": f"departments/{name}.jsonl",
                "eval_data": f"departments/{name}.eval.jsonl",
            }
            for name in ("hr", "finance")
        },
        "training": {"epochs": 40, "batch_size": 12, "learning_rate": 0.02, "lora": {"rank": 8, "alpha": 16}},
        "evaluation": {"max_tokens": 24, "gate": {"questions": 4}},
    }
    (root / "quintet.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return Project.load(root)


@pytest.fixture
def project(tmp_path: Path, tiny_base: Path) -> Project:
    """A fresh project with nothing trained."""
    return write_project(tmp_path / "company", tiny_base)


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Project:
    """A project whose hr@1 knows its four facts by heart. Not to be changed: `trained` is a copy."""
    from quintet.training.preparation import plan_run
    from quintet.training.run import train

    project = write_project(tmp_path_factory.mktemp("trained") / "company", tiny_base)
    train(project, plan_run(project, "hr"))
    return project


@pytest.fixture
def trained(trained_once: Project, tmp_path: Path) -> tuple[Project, Expert]:
    """A project with a trained expert, to change."""
    project = Project.load(shutil.copytree(trained_once.root, tmp_path / "trained"))
    return project, find_expert(project, "hr@1")


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEndpoint]:
    """An OpenAI-compatible endpoint on this machine, which answers as a test tells it to."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving(FakeEndpoint()) as fake:
        yield fake
