"""The runner says, token for token in float32, what PEFT and transformers themselves generate."""

import json
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from quintet.engine.interface import Adapter
from quintet.engine.runner.cuda_graphs import Capture, Graph
from quintet.engine.runner.model_runner import ModelRunner
from quintet.engine.types import Chunk, Runner
from quintet.errors import ModelError
from tests.engine.recording import record
from tests.engine.tiny_models import (
    ANSWER,
    BASES,
    KINDS,
    MORE_BASES,
    OWN,
    REFUSED_BASES,
    SHARED,
    TINY,
    VOCABULARY,
    generate,
    make_base,
    make_expert,
)

BLOCK_SIZE = 4
PROMPTS = [[random.Random(length).randrange(1, VOCABULARY) for _ in range(length)] for length in (1, 6, 19, 41)]
OF_EVERY_BASE = ("lora", "prefix", "prefix, longer than a window")


@dataclass
class Job:
    """A prompt on its way to its answer, as a scheduler would hold it."""

    expert: str | None
    num_virtual_tokens: int
    prompt: list[int]
    count: int
    arrival: int = 0
    done: int = 0
    blocks: list[int] = field(default_factory=list)
    answer: list[int] = field(default_factory=list)

    def next_chunk(self, size: int) -> Chunk:
        ids = [*self.prompt, *self.answer][self.done :][:size]
        wants = self.done + len(ids) == len(self.prompt) + len(self.answer)
        return Chunk(self.expert, tuple(ids), self.done, self.num_virtual_tokens, tuple(self.blocks), wants)


def decode(runner: ModelRunner, jobs: Sequence[Job], seed: int = 0) -> list[list[int]]:
    """Answer greedily: chunks of random sizes, blocks in random order and used again, jobs that wait now and then."""
    rng = random.Random(seed)
    free = list(range(runner.blocks))
    rng.shuffle(free)
    left, now = list(jobs), 0
    while left:
        active = [job for job in left if job.arrival <= now and rng.random() < 0.9]
        now += 1
        chunks = [job.next_chunk(rng.choice((1, 2, 3, 9, 64))) for job in active]
        for number, (job, chunk) in enumerate(zip(active, chunks, strict=True)):
            while len(job.blocks) * runner.block_size < job.num_virtual_tokens + chunk.start + len(chunk.ids):
                job.blocks.append(free.pop())
            chunks[number] = replace(chunk, blocks=tuple(job.blocks))
        ids = runner.step(chunks).argmax(-1).tolist()
        for job, chunk in zip(active, chunks, strict=True):
            job.done += len(chunk.ids)
            if chunk.wants_logits:
                job.answer.append(ids.pop(0))
            if len(job.answer) == job.count:
                left.remove(job)
                free += job.blocks
    return [job.answer for job in jobs]


@dataclass
class Served:
    """A runner with experts, and what their own models say."""

    base: Path
    experts: dict[str | None, Path | None]
    runner: ModelRunner
    num_virtual_tokens: dict[str | None, int]
    expected: Callable[[str | None, int], list[int]]

    def job(self, expert: str | None, prompt: int, count: int = ANSWER, arrival: int = 0) -> Job:
        return Job(expert, self.num_virtual_tokens[expert], PROMPTS[prompt], count, arrival)


def serve(folder: Path, base: str, kinds: Sequence[str], capture: Capture | None = None) -> Served:
    source = make_base(folder / "base", base)
    experts: dict[str | None, Path | None] = {None: None}
    runner = ModelRunner(str(source), "cpu", blocks=512, block_size=BLOCK_SIZE, capture=capture)
    num_virtual_tokens: dict[str | None, int] = {None: 0}
    for kind in kinds:
        path = experts[kind] = make_expert(folder / kind, source, kind)
        num_virtual_tokens[kind] = runner.load(Adapter(kind, path))
    expected = cache(lambda expert, prompt: generate(source, experts[expert], PROMPTS[prompt]))
    return Served(source, experts, runner, num_virtual_tokens, expected)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    """A Llama with an expert of every kind, and one fully fine-tuned."""
    return serve(tmp_path_factory.mktemp("served"), "llama", [*KINDS, "full"])


@pytest.mark.parametrize("expert", [None, *KINDS, "full"])
def test_an_expert_alone_answers_as_its_own_model_does(served: Served, expert: str | None) -> None:
    for prompt in range(len(PROMPTS)):
        assert decode(served.runner, [served.job(expert, prompt)], prompt) == [served.expected(expert, prompt)]
    if expert is not None:
        assert served.expected(expert, 1) != served.expected(None, 1)


@pytest.mark.parametrize("seed", range(12))
def test_a_mixture_of_experts_answers_as_each_alone(served: Served, seed: int) -> None:
    rng = random.Random(seed)
    picked = [
        (rng.choice(list(served.num_virtual_tokens)), rng.randrange(len(PROMPTS))) for _ in range(rng.randint(2, 12))
    ]
    jobs = [served.job(*pick, count=rng.randint(1, ANSWER), arrival=rng.randint(0, 30)) for pick in picked]
    for (expert, prompt), answer in zip(picked, decode(served.runner, jobs, seed), strict=True):
        assert answer == served.expected(expert, prompt)[: len(answer)]


@pytest.mark.parametrize("base", [name for name in BASES if name != "llama"])
def test_every_architecture_answers_alone_and_mixed(tmp_path: Path, base: str) -> None:
    served = serve(tmp_path, base, OF_EVERY_BASE)
    picked = [(expert, prompt) for expert in served.num_virtual_tokens for prompt in (0, 2)]
    for number, pick in enumerate(picked):
        assert decode(served.runner, [served.job(*pick)], number) == [served.expected(*pick)], pick
    jobs = [served.job(*pick, arrival=number * 2) for number, pick in enumerate(picked)]
    assert decode(served.runner, jobs) == [served.expected(*pick) for pick in picked]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Served:
    """A Llama whose steps of single tokens are recorded, with experts that join the batch and one that does not."""
    return serve(tmp_path_factory.mktemp("recorded"), "llama", [*SHARED, "full"], record)


@pytest.mark.parametrize("seed", range(4))
def test_recorded_steps_answer_as_each_expert_alone(
    recorded: Served, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    rng = random.Random(seed)
    runs = _counted_runs(monkeypatch)
    picked = [
        (rng.choice(list(recorded.num_virtual_tokens)), rng.randrange(len(PROMPTS))) for _ in range(rng.randint(2, 12))
    ]
    jobs = [recorded.job(*pick, arrival=rng.randint(0, 30)) for pick in picked]
    assert decode(recorded.runner, jobs, seed) == [recorded.expected(*pick) for pick in picked]
    assert len(runs) > 10


@pytest.mark.parametrize("base", ["gemma2", "gemma3", "gpt2", "mistral", "phi3", "qwen3"])
def test_recorded_steps_of_every_architecture_answer_as_its_own_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: str
) -> None:
    runs = _counted_runs(monkeypatch)
    served = serve(tmp_path, base, ["lora"], record)
    for expert in served.num_virtual_tokens:
        assert decode(served.runner, [served.job(expert, 2)]) == [served.expected(expert, 2)]
    assert len(runs) > 10


def test_an_expert_that_comes_after_steps_were_recorded_is_heard(tmp_path: Path) -> None:
    served = serve(tmp_path, "llama", ["lora"], record)
    decode(served.runner, [served.job("lora", 1)])
    for number, kind in enumerate(["rslora", "ia3", "lora, many ranks"]):
        path = served.experts[kind] = make_expert(tmp_path / kind, served.base, kind)
        served.num_virtual_tokens[kind] = served.runner.load(Adapter(kind, path))
        picked = [(kind, 1), ("lora", 1)]
        jobs = [served.job(*pick) for pick in picked]
        assert decode(served.runner, jobs, number) == [served.expected(*pick) for pick in picked]


def _counted_runs(monkeypatch: pytest.MonkeyPatch) -> list[Graph]:
    """Return a list that graphs are added to whenever they run."""
    runs: list[Graph] = []
    run = Graph.run

    def counted(graph: Graph, inputs: Sequence[Tensor]) -> Tensor:
        runs.append(graph)
        return run(graph, inputs)

    monkeypatch.setattr(Graph, "run", counted)
    return runs


@pytest.mark.parametrize("base", MORE_BASES)
def test_more_architectures_answer_as_bare_bases(tmp_path: Path, base: str) -> None:
    served = serve(tmp_path, base, [])
    jobs = [served.job(None, prompt, arrival=prompt * 9) for prompt in range(len(PROMPTS))]
    assert decode(served.runner, jobs) == [served.expected(None, prompt) for prompt in range(len(PROMPTS))]


@pytest.mark.parametrize("expert", [None, "lora", "prefix", "prompt"])
def test_a_sequence_may_begin_in_blocks_that_another_computed(served: Served, expert: str | None) -> None:
    num_virtual_tokens, prompt = served.num_virtual_tokens[expert], PROMPTS[2]
    shared = (num_virtual_tokens + 10) // BLOCK_SIZE
    start = shared * BLOCK_SIZE - num_virtual_tokens
    first = tuple(range(100, 100 + (num_virtual_tokens + len(prompt)) // BLOCK_SIZE + 1))
    second = (*first[:shared], *range(200, 210))
    whole = served.runner.step([Chunk(expert, tuple(prompt), 0, num_virtual_tokens, first, True)])
    rest = served.runner.step([Chunk(expert, tuple(prompt[start:]), start, num_virtual_tokens, second, True)])
    torch.testing.assert_close(rest, whole)


def test_what_can_share_a_forward_shares_it(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    forwards: list[int] = []
    monkeypatch.setattr(served.runner, "_forward", _counting(served.runner, forwards))
    decode(served.runner, [served.job(expert, 0, count=1) for expert in (None, *SHARED)], seed=5)
    shared = len(forwards)
    forwards.clear()
    decode(served.runner, [served.job(expert, 0, count=1) for expert in (*OWN, "full")], seed=5)
    assert max(forwards) == 1
    assert shared < len(SHARED)


def _counting(runner: ModelRunner, forwards: list[int]) -> Callable[[Any], Any]:
    forward = runner._forward

    def counted(group: Sequence[Chunk]) -> Any:
        forwards.append(len(group))
        return forward(group)

    return counted


def test_the_base_is_never_changed(served: Served) -> None:
    fresh = LlamaForCausalLM.from_pretrained(served.base)
    before = fresh.state_dict()
    now = [*served.runner._model.state_dict().items(), *served.runner._template().state_dict().items()]
    assert before.keys() == {name for name, _ in now}
    assert all(torch.equal(tensor, before[name]) for name, tensor in now)
    with torch.inference_mode():
        said = served.runner.step([Chunk(None, (5, 6, 7), 0, 0, (0,), True)])
        torch.testing.assert_close(said, fresh(torch.tensor([[5, 6, 7]])).logits[:, -1])


def test_it_is_a_runner_and_says_where_it_computes(served: Served) -> None:
    runner: Runner = served.runner
    assert (runner.blocks, runner.block_size, runner.context_length) == (512, BLOCK_SIZE, 160)
    assert served.runner.device_info.dtype == "float32"


def test_logits_come_in_the_order_of_the_chunks_that_want_them(served: Served) -> None:
    chunks = [
        Chunk("dora", (5, 6), 0, 0, (0,), True),
        Chunk(None, (5, 6), 0, 0, (1,), False),
        Chunk("lora", (5, 6), 0, 0, (2,), True),
        Chunk("full", (5, 6), 0, 0, (3,), True),
    ]
    logits = served.runner.step(chunks)
    assert (logits.shape, logits.dtype) == ((3, VOCABULARY), torch.float32)
    for row, chunk in zip(logits, [chunks[0], *chunks[2:]], strict=True):
        torch.testing.assert_close(row, served.runner.step([chunk])[0])
    assert served.runner.step(chunks[1:2]).shape == (0, VOCABULARY)
    assert served.runner.step([]).shape == (0, VOCABULARY)


def test_what_another_sequence_left_behind_is_never_read(served: Served) -> None:
    keys, values = served.runner._store._layers[0]
    chunk = Chunk(None, (7,), 0, 0, (9,), True)
    longer = Chunk("lora", tuple(PROMPTS[2]), 0, 0, tuple(range(20, 25)), True)
    before = served.runner.step([chunk, longer])
    for states in (keys, values):
        states[9 * BLOCK_SIZE + 1 : 20 * BLOCK_SIZE] = torch.nan
    after = served.runner.step([chunk, longer])
    keys.nan_to_num_(0), values.nan_to_num_(0)
    assert torch.equal(before, after)


@pytest.mark.parametrize("kind", ["lora", "dora", "prefix", "full"])
def test_an_unloaded_expert_is_gone_and_can_come_back(served: Served, kind: str) -> None:
    path = served.experts[kind]
    assert path is not None
    adapter = Adapter("again", path)
    num_virtual_tokens = served.runner.load(adapter)
    assert served.runner.load(adapter) == num_virtual_tokens
    job = Job("again", num_virtual_tokens, PROMPTS[1], ANSWER)
    assert decode(served.runner, [job]) == [served.expected(kind, 1)]
    served.runner.unload("again")
    chunk = Chunk("again", (1,), 0, num_virtual_tokens, tuple(range(8)), True)
    with pytest.raises(ModelError, match="again is not loaded"):
        served.runner.step([chunk])
    served.runner.load(adapter)
    assert served.runner.step([chunk]).shape == (1, VOCABULARY)
    served.runner.unload("again")


@pytest.mark.parametrize(
    ("chunk", "problem"),
    [
        (Chunk("prefix", (1,), 0, 0, (0,), True), "0 virtual tokens, its expert 5"),
        (Chunk(None, (1, 2, 3, 4, 5), 0, 0, (0,), True), "blocks for its 5 places"),
        (Chunk(None, (), 0, 0, (0,), True), "must have ids"),
        (Chunk(None, (1,), 160, 0, tuple(range(60)), True), "may not go beyond 160"),
        (Chunk(None, (1,), 0, 0, (512,), True), "from 0 to 511"),
    ],
)
def test_a_chunk_that_cannot_be_is_refused(served: Served, chunk: Chunk, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        served.runner.step([Chunk(None, (1,), 0, 0, (0,), True), chunk])


def break_config(folder: Path, only: dict[str, Any] | None = None, **values: Any) -> None:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(only or {**json.loads(file.read_text()), **values}))


BROKEN: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "no weights": ("lora", lambda f: (f / "adapter_model.safetensors").unlink(), "cannot be loaded"),
    "cut weights": ("ia3", lambda f: (f / "adapter_model.safetensors").write_bytes(b"x" * 40), "cannot be loaded"),
    "another rank": ("lora", lambda f: break_config(f, r=4), "cannot be loaded"),
    "fewer layers trained than named": (
        "lora, one layer",
        lambda f: break_config(f, target_modules=["q_proj", "v_proj", "down_proj", "o_proj"]),
        "lacks 10 weights",
    ),
    "no config": ("lora", lambda f: (f / "adapter_config.json").write_text("{"), "not an adapter's config"),
    "an unknown kind": ("lora", lambda f: break_config(f, peft_type="LORE"), "not an adapter's config"),
    "a kind that has no place": (
        "lora",
        lambda f: break_config(f, only={"peft_type": "ADAPTION_PROMPT"}),
        "--format merged",
    ),
    "a start that changes the base": ("lora", lambda f: break_config(f, init_lora_weights="pissa"), "--format merged"),
    "too many virtual tokens": ("prefix", lambda f: break_config(f, num_virtual_tokens=9), "cannot be loaded"),
    "no folder": ("full", lambda f: shutil.rmtree(f), "cannot be loaded"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_folder_is_refused_with_the_fix_and_leaves_nothing(served: Served, tmp_path: Path, name: str) -> None:
    kind, damage, problem = BROKEN[name]
    source = served.experts[kind]
    assert source is not None
    folder = Path(shutil.copytree(source, tmp_path / "expert"))
    damage(folder)
    with pytest.raises(ModelError, match=problem):
        served.runner.load(Adapter("broken", folder))
    with pytest.raises(ModelError, match="broken is not loaded"):
        served.runner.step([Chunk("broken", (1,), 0, 0, (0,), True)])


@pytest.mark.parametrize("kind", ["prefix", "prompt", "lora", "full"])
def test_an_expert_of_another_base_is_refused(served: Served, tmp_path: Path, kind: str) -> None:
    LlamaForCausalLM(LlamaConfig(**{**TINY, "hidden_size": 64, "num_key_value_heads": 4})).save_pretrained(tmp_path)
    other = make_expert(tmp_path / "other", tmp_path, kind)
    with pytest.raises(ModelError, match=r"another base|another shape|cannot be loaded"):
        served.runner.load(Adapter("other", other))


@pytest.mark.parametrize("name", REFUSED_BASES)
def test_a_base_that_attends_in_another_way_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError, match=r"name another base_model in quintet\.yaml"):
        ModelRunner(str(make_base(tmp_path, name)), "cpu")


def test_without_a_number_of_blocks_there_are_some_for_a_full_context(served: Served) -> None:
    runner = ModelRunner(str(served.base), "cpu")
    assert 160 // 16 <= runner.blocks <= 256 * 160 // 16
