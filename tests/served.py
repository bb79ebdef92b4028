"""A company with one trained expert, a real server over the real engine, an engine that follows a script."""

import asyncio
import shutil
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import torch
from fastapi import FastAPI
from openai import OpenAI
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from quintet.config import Project
from quintet.engine.engine import MixedEngine
from quintet.engine.interface import Adapter, DeviceInfo, EngineStatus, Request, Token
from quintet.engine.runner.model_runner import ModelRunner
from quintet.files import digest_files
from quintet.models.base_model import base_digest
from quintet.registry.experts import Expert, publish
from quintet.registry.keys import create_key
from quintet.registry.releases import release
from quintet.server.app import create_app
from quintet.server.process import listen, make_server
from tests.conftest import write_project
from tests.server.routers import save_router

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
Serve = Callable[[FastAPI], AbstractContextManager[str]]
MakeExpert = Callable[..., Expert]


class ScriptedEngine:
    """Says what it is told to, one token at a time, and remembers what it was asked."""

    def __init__(self, script: list[Token | Exception], pause: float = 0.0) -> None:
        self.script = script
        self.pause = pause
        self.requests: list[Request] = []
        self.loads: list[Adapter] = []
        self.running = 0
        self.closed = 0

    device = DeviceInfo("cpu")
    context_length = 256

    @property
    def status(self) -> EngineStatus:
        return EngineStatus({adapter.digest for adapter in self.loads}, self.running)

    async def load(self, adapter: Adapter) -> None:
        await asyncio.sleep(self.pause)
        self.loads.append(adapter)

    async def generate(self, request: Request) -> AsyncGenerator[Token]:
        self.requests.append(request)
        if request.adapter is not None and request.adapter not in self.loads:
            await self.load(request.adapter)
        self.running += 1
        try:
            for number, token in enumerate(self.script, 1):
                if isinstance(token, Exception):
                    raise token
                if number == request.sampling.max_tokens:
                    token = replace(token, finish_reason="length")
                yield token
                if token.finish_reason:
                    return
                await asyncio.sleep(self.pause)
        finally:
            self.running -= 1
            self.closed += 1

    async def close(self) -> None:
        pass


def _make_expert(
    project: Project,
    department: str = "hr",
    version: int = 1,
    base: str | None = None,
    seed: int = 1,
    released: bool = True,
) -> Expert:
    """Publish and release an expert with random low-rank weights, so that it answers unlike its base."""
    source = project.config.base_model
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(source)
    options = LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False)
    run = project.runs / department / str(version)
    staged = run / "staged"
    get_peft_model(model, options).save_pretrained(str(staged))
    AutoTokenizer.from_pretrained(source).save_pretrained(staged)
    expert = Expert(
        department=department,
        version=version,
        method="lora",
        trained="lora",
        objective="sft",
        parent=None,
        base_model=source,
        base_digest=base or base_digest(source),
        data_digest="a",
        fingerprint="f",
        digest=digest_files(*(staged / name for name in ADAPTER_FILES)),
        files=ADAPTER_FILES,
        seconds=1.0,
        peak_bytes=None,
        examples=12,
        folder=run / "expert",
    )
    published = publish(staged, expert, project)
    if released:
        release(project, department, version)
    return published


@contextmanager
def _serve(app: FastAPI) -> Iterator[str]:
    """Run the application on a free port, in a thread, and yield its address."""
    server = make_server(app, app.state.services.project.config.serving)
    with listen("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="session")
def serve() -> Serve:
    return _serve


@pytest.fixture(scope="session")
def make_expert() -> MakeExpert:
    return _make_expert


@pytest.fixture(scope="session")
def company(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Project:
    """Two departments: hr has an expert, finance has none."""
    project = write_project(tmp_path_factory.mktemp("served") / "company", tiny_base)
    _make_expert(project)
    return project


@pytest.fixture(scope="session")
def address(company: Project) -> Iterator[str]:
    """Where the company's server runs; shared, so tests must not change what it serves."""
    engine = MixedEngine(ModelRunner(company.config.base_model, "cpu"))
    with _serve(create_app(company, engine)) as url:
        yield url


@pytest.fixture
def api(address: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address, timeout=20) as client:
        yield client


@pytest.fixture
def openai(address: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0, timeout=20) as client:
        yield client


@pytest.fixture(scope="session")
def routed(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Project:
    """Two departments with an expert each, and a router that goes by one word of each; tests do not change it."""
    project = write_project(tmp_path_factory.mktemp("routed") / "company", tiny_base)
    for name in ("hr", "finance"):
        _make_expert(project, name)
    save_router(project, hr="leave", finance="invoice")
    return project


@pytest.fixture(scope="session")
def routed_by_key(routed: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The same, where a key is needed."""
    root = tmp_path_factory.mktemp("routed-by-key") / "company"
    shutil.copytree(routed.root, root)
    create_key(project := Project.load(root), roles=["admin"])
    return project
