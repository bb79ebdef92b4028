"""The engine over the real runner, while experts of every kind come, go and are replaced: each answers as alone."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quintet.engine.engine import MixedEngine
from quintet.engine.interface import Adapter, Request, SamplingParams
from quintet.engine.runner.model_runner import ModelRunner
from tests.engine.test_engine import answer
from tests.engine.tiny_models import VOCABULARY, generate, make_base, make_expert

KINDS = ("lora", "ia3", "prefix", "prompt", "full")
LONGEST = 16
TEXT = [Random(1).randrange(1, VOCABULARY) for _ in range(41)]


@dataclass
class Company:
    """A base, two experts of each kind, and what each says alone."""

    base: Path
    adapters: dict[str, Adapter]

    def __post_init__(self) -> None:
        self.alone = cache(self._alone)

    def _alone(self, name: str, length: int) -> list[int]:
        folder = self.adapters[name].folder if name in self.adapters else None
        return generate(self.base, folder, TEXT[:length], LONGEST)

    def request(self, name: str, length: int, tokens: int = LONGEST) -> Request:
        return Request(tuple(TEXT[:length]), (), SamplingParams(tokens, temperature=0), self.adapters.get(name), "hr")

    def engine(self, experts: Sequence[str], blocks: int) -> MixedEngine:
        """Return an engine with room for these experts together, and no more."""
        runner = ModelRunner(str(self.base), "cpu", blocks=blocks, block_size=4)
        memory = sum(runner.prepare(self.adapters[name]).bytes for name in experts)
        return MixedEngine(runner, max_running=6, step_tokens=24, expert_memory=memory)


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Company:
    folder = tmp_path_factory.mktemp("company")
    base = make_base(folder / "base", "llama")
    names = [(f"{kind}@{version}", kind, version) for kind in KINDS for version in (1, 2)]
    made = {name: make_expert(folder / name, base, kind, version) for name, kind, version in names}
    return Company(base, {name: Adapter(name, path) for name, path in made.items()})


@dataclass(frozen=True)
class Client:
    """Who asks what and when, in milliseconds, and after how many tokens leaves; 0 is before the first."""

    name: str
    length: int
    tokens: int
    arrival: int
    leaves: int | None


CLIENTS = st.builds(
    Client,
    st.sampled_from(["base", *(f"{kind}@1" for kind in KINDS)]),
    st.sampled_from([1, 6, 8, 19, 41]),
    st.integers(1, LONGEST),
    st.integers(0, 40),
    st.none() | st.integers(0, 8),
)


async def ask(engine: MixedEngine, company: Company, client: Client) -> list[int | None]:
    """Return what a client got before it left."""
    await asyncio.sleep(client.arrival / 1000)
    got: list[int | None] = []
    with suppress(TimeoutError):
        async with asyncio.timeout(0.005 if client.leaves == 0 else 30):
            async for token in engine.generate(company.request(client.name, client.length, client.tokens)):
                got.append(token.id)
                if len(got) == client.leaves:
                    break
    return got


ROOMS = st.sampled_from([["full@1"], ["full@1", "lora@1"], ["full@1", "full@2", "prefix@1"]])


@settings(max_examples=12, derandomize=True, deadline=None)
@given(st.lists(CLIENTS, min_size=2, max_size=12), ROOMS)
def test_whatever_the_mixture_each_answer_is_the_one_it_would_be_alone(
    company: Company, clients: list[Client], room: Sequence[str]
) -> None:
    async def ask_all() -> list[list[int | None]]:
        engine = company.engine(room, blocks=24)
        try:
            answers = await asyncio.gather(*(ask(engine, company, client) for client in clients))
            assert engine.status.expert_bytes <= engine.status.expert_memory
            assert (engine.status.waiting, engine.status.running) == (0, 0)
            return answers
        finally:
            await engine.close()

    for client, got in zip(clients, asyncio.run(ask_all()), strict=True):
        assert got == company.alone(client.name, client.length)[: len(got)], client
        assert client.leaves is not None or len(got) == client.tokens


@pytest.mark.parametrize("room", ["for one", "for both"])
@pytest.mark.parametrize("kind", KINDS)
def test_after_a_replacement_not_one_token_is_the_old_experts(company: Company, kind: str, room: str) -> None:
    """Requests of one department and one text, which all find its states; those of the old expert are still running."""
    old, new = f"{kind}@1", f"{kind}@2"

    async def use(engine: MixedEngine) -> None:
        async def one(name: str, length: int = 41) -> None:
            assert await answer(engine, company.request(name, length)) == company.alone(name, length)

        await one(old)
        running = [asyncio.ensure_future(one(old)) for _ in range(3)]
        await asyncio.gather(one(new), one(new, 19), *running)
        reused = engine.status.reused_tokens
        await one(new)
        assert engine.status.reused_tokens - reused >= 32
        # And back, as by a rollback, to states that were kept.
        await asyncio.gather(one(old), one(new))

    async def use_and_close() -> None:
        engine = company.engine([old] if room == "for one" else [old, new], blocks=256)
        try:
            await use(engine)
            assert engine.status.evictions == (0 if room == "for both" else engine.status.loads - 1)
        finally:
            await engine.close()

    assert company.alone(old, 41) != company.alone(new, 41)
    asyncio.run(use_and_close())


def test_the_first_request_of_a_new_expert_finds_no_states_of_the_old(company: Company) -> None:
    async def use() -> None:
        engine = company.engine(["lora@1", "lora@2"], blocks=256)
        await answer(engine, company.request("lora@1", 41))
        await answer(engine, company.request("lora@2", 41))
        assert engine.status.reused_tokens == 0
        await answer(engine, company.request("lora@2", 41))
        assert engine.status.reused_tokens == 40
        await engine.close()

    asyncio.run(use())
