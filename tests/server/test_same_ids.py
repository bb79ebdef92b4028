"""The ids before an answer are the same wherever they are made: training, evaluation, the API."""

from collections.abc import AsyncGenerator

import httpx
import pytest

from quintet.chat import IGNORED
from quintet.config import Project
from quintet.data.loading import load_examples
from quintet.engine.engine import MixedEngine
from quintet.engine.interface import Request, Token
from quintet.evaluation import compare
from quintet.registry.experts import find_expert
from quintet.server.app import create_app
from quintet.training.preparation import plan_run
from tests.served import MakeExpert, ScriptedEngine, Serve


def test_training_evaluation_and_the_api_feed_the_same_ids(
    project: Project, make_expert: MakeExpert, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_expert(project).folder.parent
    (run / "config.yaml").touch()  # as training leaves it
    held_out = project.root / "departments" / "hr.eval.jsonl"
    examples = load_examples(held_out)

    evaluated: list[list[int]] = []

    async def record(_: MixedEngine, request: Request) -> AsyncGenerator[Token]:
        evaluated.append(list(request.prompt_ids))
        yield Token(None, "stop")

    monkeypatch.setattr(MixedEngine, "generate", record)
    monkeypatch.setattr(compare, "held_out_examples", lambda *_: examples)
    compare.evaluate(project, find_expert(project, "hr"))

    engine = ScriptedEngine([Token(None, "stop")])
    with serve(create_app(project, engine)) as url:
        for example in examples:
            body = {"model": "hr", "messages": [m.as_dict() for m in example.prompt]}
            assert httpx.post(f"{url}/v1/chat/completions", json=body).status_code == 200
    served = [list(request.prompt_ids) for request in engine.requests]

    held_out.replace(project.root / "departments" / "hr.jsonl")  # the same rows, now as what is trained
    config = project.root / "quintet.yaml"
    config.write_text(config.read_text().replace("    eval_data: departments/hr.eval.jsonl\n", "", 1))
    rows = plan_run(Project.load(project.root), "hr").rows
    trained = [
        [id_ for id_, label in zip(row["input_ids"], row["labels"], strict=True) if label == IGNORED] for row in rows
    ]

    assert len(served) == len(examples)
    assert sorted(evaluated[: len(examples)]) == sorted(served)
    assert all(prompt in served for prompt in trained)
    assert len(trained) >= 1
