"""An expert of any method answers in a new process as it did in the one that trained it."""

import json
import subprocess
import sys

from quintet.config import Project
from quintet.evaluation.compare import evaluate
from quintet.registry.experts import newest_expert
from quintet.training.department import train_department
from quintet.training.preparation import plan_run
from tests.conftest import FACTS
from tests.training.test_every_method import configure

ASK_ALL = """
import json, sys
from pathlib import Path
from quintet.models.base_model import load_model, load_tokenizer
from quintet.chat import ChatTranslator
from quintet.config import Project
from quintet.data.examples import Message
from quintet.evaluation.answering import greedy
from quintet.models.peft_model import load_expert_model
from quintet.registry.experts import list_experts

project = Project.load(Path(sys.argv[1]))
base = load_model(project.config.base_model, "cpu")
answers = {}
for expert in list_experts(project, "hr"):
    translator = ChatTranslator(load_tokenizer(str(expert.folder)))
    prompts = [translator.encode_prompt([Message("user", question)]) for question in json.loads(sys.argv[2])]
    ids = greedy(load_expert_model(expert.folder, base), prompts, translator.end_ids, 24)
    answers[expert.name] = [translator.decode(one.ids) for one in ids]
print(json.dumps(answers))
"""


def test_experts_of_the_five_methods_answer_the_same_in_a_new_process(project: Project) -> None:
    pairs = [{"prompt": f"{q} Number {n}.", "chosen": a, "rejected": "No."} for q, a in FACTS.items() for n in range(3)]
    file = project.root / "departments" / "hr.preferences.jsonl"
    file.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    project = configure(project, {"preferences": "departments/hr.preferences.jsonl"}, epochs=6)
    expected = {}
    for method in ("full", "qlora", "prefix", "lora", "dpo"):
        train_department(project, plan_run(project, "hr", method), lambda _: None)
        expert = newest_expert(project, "hr")
        assert expert is not None
        assert expert.method == method
        expected[expert.name] = [item.answers["expert"].text for item in evaluate(project, expert).items]
    # DPO started from the LoRA expert that was there.
    assert list(expected) == [f"hr@{version}" for version in range(1, 6)]
    command = [sys.executable, "-W", "ignore", "-c", ASK_ALL, str(project.root), json.dumps(list(FACTS))]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(found.stdout.splitlines()[-1]) == expected
