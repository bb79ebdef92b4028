"""The engine over the real runner: experts of every kind in one batch, as their own libraries generate."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config, LoraConfig, PeftConfig, PeftModel, PrefixTuningConfig, get_peft_model
from transformers import AutoModelForCausalLM

from quintet.engine.engine import MixedEngine
from quintet.engine.interface import Adapter, Request, SamplingParams
from quintet.engine.runner.model_runner import ModelRunner
from quintet.errors import BusyError, ModelError, RequestError
from quintet.models.base_model import load_model

PROMPT = (5, 60, 70, 80, 90)
NO_END = (-1,)
GREEDY = SamplingParams(max_tokens=12, temperature=0)


@pytest.fixture(scope="module")
def adapters(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Adapter]:
    """Two adapters with random weights, large enough to change every answer."""
    made = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        config = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear", init_lora_weights=False)
        folder = tmp_path_factory.mktemp(f"adapter{seed}")
        get_peft_model(load_model(str(tiny_base), "cpu"), config).save_pretrained(str(folder))
        made.append(Adapter(str(seed) * 64, folder))
    return made


@pytest.fixture
def engine(tiny_base: Path) -> Iterator[MixedEngine]:
    engine = MixedEngine(ModelRunner(str(tiny_base), "cpu"), max_queue=2, max_running=1)
    yield engine
    asyncio.run(engine.close())


async def answer(engine: MixedEngine, request: Request) -> list[int | None]:
    return [token.id async for token in engine.generate(request)]


def request(
    adapter: Adapter | None = None, sampling: SamplingParams = GREEDY, prompt: tuple[int, ...] = PROMPT
) -> Request:
    return Request(prompt, NO_END, sampling, adapter)


def reference(base: Path, adapter: Adapter | None) -> list[int]:
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter.folder)
    ids = torch.tensor([PROMPT])
    made = model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12,
        eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    return list(made[0, len(PROMPT) :].tolist())


def test_answers_are_pefts_own_for_each_expert_and_the_base_in_any_order(
    engine: MixedEngine, adapters: list[Adapter], tiny_base: Path
) -> None:
    one, two = adapters
    for adapter in (None, one, two, None, two, one):
        assert asyncio.run(answer(engine, request(adapter))) == reference(tiny_base, adapter)


def test_clients_at_once_get_the_answers_they_would_get_alone(
    engine: MixedEngine, adapters: list[Adapter], tiny_base: Path
) -> None:
    async def ask_all() -> list[list[int | None]]:
        return await asyncio.gather(*(answer(engine, request(a)) for a in adapters))

    assert asyncio.run(ask_all()) == [reference(tiny_base, a) for a in adapters]


def test_an_end_id_stops_the_answer_and_is_not_part_of_it(engine: MixedEngine, tiny_base: Path) -> None:
    ids = reference(tiny_base, None)
    ending = next(i for i, id_ in enumerate(ids) if i and id_ not in ids[:i])

    async def ask() -> list[tuple[int | None, str | None]]:
        stopping = Request(PROMPT, (ids[ending],), GREEDY)
        return [(token.id, token.finish_reason) async for token in engine.generate(stopping)]

    assert asyncio.run(ask()) == [(id_, None) for id_ in ids[:ending]] + [(None, "stop")]


def test_the_last_token_within_the_limit_says_length(engine: MixedEngine) -> None:
    async def reasons() -> list[str | None]:
        return [token.finish_reason async for token in engine.generate(request())]

    assert asyncio.run(reasons()) == [None] * 11 + ["length"]


def test_an_answer_never_passes_the_context(engine: MixedEngine) -> None:
    long = request(sampling=SamplingParams(max_tokens=1000, temperature=0), prompt=(5,) * 250)
    assert len(asyncio.run(answer(engine, long))) == 6


def test_a_prompt_that_fills_the_context_is_refused_with_both_numbers(engine: MixedEngine) -> None:
    with pytest.raises(RequestError, match=r"the prompt has 256 tokens.* 256 together"):
        asyncio.run(answer(engine, request(prompt=(5,) * 256)))


def test_a_seed_repeats_a_sampled_answer(engine: MixedEngine) -> None:
    def sampled(seed: int) -> list[int | None]:
        return asyncio.run(answer(engine, request(sampling=SamplingParams(12, 1.5, 0.9, seed))))

    assert sampled(1) == sampled(1)
    assert sampled(1) != sampled(2)


def test_a_full_queue_is_said_to_be_full(engine: MixedEngine) -> None:
    async def flood() -> list[list[int | None] | BaseException]:
        running = engine.generate(request(sampling=SamplingParams(200, 0)))
        await anext(running)
        results = await asyncio.gather(*(answer(engine, request()) for _ in range(4)), return_exceptions=True)
        await running.aclose()
        return results

    results = asyncio.run(flood())
    assert [isinstance(result, BusyError) for result in results] == [False] * 2 + [True] * 2


def test_a_reader_who_leaves_frees_the_place(engine: MixedEngine) -> None:
    async def leave() -> int:
        stream = engine.generate(request(sampling=SamplingParams(200, 0)))
        await anext(stream)
        await stream.aclose()
        while engine.status.waiting:
            await asyncio.sleep(0.01)
        return len(await answer(engine, request()))

    assert asyncio.run(leave()) == 12


def test_adapters_load_once_and_stay(engine: MixedEngine, adapters: list[Adapter]) -> None:
    async def load_twice() -> None:
        await asyncio.gather(engine.load(adapters[0]), engine.load(adapters[0]))
        await engine.load(adapters[0])

    asyncio.run(load_twice())
    status = engine.status
    assert (status.loads, status.loaded) == (1, {adapters[0].digest})
    assert 0 < status.expert_bytes < status.expert_memory


def test_a_broken_adapter_fails_its_request_and_no_other(
    engine: MixedEngine, adapters: list[Adapter], tmp_path: Path, tiny_base: Path
) -> None:
    (tmp_path / "adapter_config.json").write_text((adapters[0].folder / "adapter_config.json").read_text())
    (tmp_path / "adapter_model.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(ModelError, match="cannot be loaded"):
        asyncio.run(answer(engine, request(Adapter("9" * 64, tmp_path))))
    assert asyncio.run(answer(engine, request(adapters[1]))) == reference(tiny_base, adapters[1])


def test_a_closed_engine_fails_what_waits(tiny_base: Path) -> None:
    async def close_early() -> list[object]:
        engine = MixedEngine(ModelRunner(str(tiny_base), "cpu"), max_running=1)
        asked = [asyncio.ensure_future(answer(engine, request())) for _ in range(4)]
        await asyncio.sleep(0)
        await engine.close()
        return await asyncio.gather(*asked, return_exceptions=True)

    first, *waiting = asyncio.run(close_early())
    assert isinstance(first, ModelError) or first == reference(tiny_base, None)
    assert all(isinstance(result, ModelError) for result in waiting)


@pytest.fixture(scope="module")
def every_kind(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory, adapters: list[Adapter]) -> list[Adapter]:
    """LoRA, prefix, IA3 and full weights, each with random numbers of its own."""
    made = [adapters[0]]
    kinds: list[PeftConfig] = [
        PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4, encoder_hidden_size=32),
        IA3Config(task_type="CAUSAL_LM", init_ia3_weights=False),
    ]
    for number, config in enumerate(kinds, 3):
        torch.manual_seed(number)
        folder = tmp_path_factory.mktemp(f"kind{number}")
        get_peft_model(load_model(str(tiny_base), "cpu"), config).save_pretrained(str(folder))
        made.append(Adapter(str(number) * 64, folder))
    torch.manual_seed(9)
    full = load_model(str(tiny_base), "cpu")
    for parameter in full.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    folder = tmp_path_factory.mktemp("full")
    full.save_pretrained(folder)
    return [*made, Adapter("9" * 64, folder)]


def test_experts_of_every_kind_are_served_side_by_side_as_their_own_libraries_generate(
    every_kind: list[Adapter], tiny_base: Path
) -> None:
    engine = MixedEngine(ModelRunner(str(tiny_base), "cpu"))

    async def ask_all() -> list[list[int | None]]:
        order = [None, *every_kind, None, *reversed(every_kind)]
        answers = await asyncio.gather(*(answer(engine, request(adapter)) for adapter in order))
        await engine.close()
        return answers

    answers = asyncio.run(ask_all())
    lora, prefix, ia3, full = every_kind
    expected = [reference(tiny_base, adapter) for adapter in (None, lora, prefix, ia3)]
    expected.append(reference(full.folder, None))
    assert answers == [*expected, expected[0], *reversed(expected[1:])]
    assert len({tuple(one) for one in expected}) == len(expected)
