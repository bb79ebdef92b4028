"""What a key may not ask is not there: as on a server of a project that never had it, whatever was done before."""

import asyncio
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from fastapi import FastAPI
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, rule, run_state_machine_as_test
from sqlalchemy import text

from quintet.config import Project
from quintet.engine.interface import Token
from quintet.errors import RegistryError, UnknownModelError
from quintet.registry.budgets import parse_budget
from quintet.registry.database import writing
from quintet.registry.keys import Key, create_key, revoke_key
from quintet.registry.releases import release, rollback
from quintet.server.app import create_app
from tests.conftest import write_project
from tests.served import MakeExpert, ScriptedEngine
from tests.server.routers import save_router

TRAINED = ("tax", "estates")
DEPARTMENTS = (*TRAINED, "family")
NOBODY = {"tax": "tux", "estates": "estrays", "family": "famish", "base": "bass"}
"""For each name, one of the same length that nobody has."""
VARYING = re.compile(rb'"latency_ms": ?[\d.]+|"id": ?"chatcmpl-\w+"|"created": ?\d+|"cached": ?\w+')
FOR_ADMINISTRATORS = (("GET", "/metrics"), ("POST", "/admin/reload"))
"""What tells of every department, and answers nobody else."""
Seen = tuple[int, dict[str, str], bytes]


@pytest.fixture(scope="session")
def firm(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path, make_expert: MakeExpert) -> Path:
    """Three departments: two have two versions each, and the third no expert, but a provider that cannot be reached."""
    root = tmp_path_factory.mktemp("firm") / "company"
    write_project(root, tiny_base)
    values = yaml.safe_load((root / "quintet.yaml").read_text())
    data = values["departments"].pop("hr")
    values["departments"] = {name: data | {"description": f"All about {name}."} for name in DEPARTMENTS}
    values["departments"]["family"]["answered_by"] = ["expert", "distant"]
    values["providers"] = {
        "distant": {"url": "http://127.0.0.1:9/v1", "model": "far", "retries": 0, "break_after": 10**6}
    }
    (root / "quintet.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    for number, name in enumerate(TRAINED):
        make_expert(Project.load(root), name, seed=number)
        make_expert(Project.load(root), name, version=2, seed=number + 10, released=False)
    save_router(Project.load(root), **{name: name for name in TRAINED})
    return root


class Firm(RuleBasedStateMachine):
    """Keys and departments come and go, departments are asked and released; and each key looks around."""

    root: Path
    numbers = count()
    keys = Bundle("keys")

    def __init__(self) -> None:
        super().__init__()
        root = self.root.with_name(f"copy-{next(self.numbers)}")
        root.mkdir()
        for name in ("quintet.yaml", "quintet.db"):
            shutil.copy(self.root / name, root / name)
        (root / "runs").symlink_to(self.root / "runs")
        self.project = Project.load(root)
        self.loop = asyncio.new_event_loop()
        self.made: list[tuple[Key, str]] = []
        self.opened: set[str] = set()
        self.start()
        create_key(self.project, roles=["admin"])  # so that the server is never open

    @rule()
    def start(self) -> None:
        """Begin anew, with nothing loaded."""
        self.engine = ScriptedEngine([Token(40), Token(None, "stop")])
        self.app = self.serve(self.project)

    @rule(target=keys, names=st.sets(st.sampled_from((*DEPARTMENTS, "base"))), limited=st.booleans())
    def make(self, names: set[str], limited: bool) -> Any:
        names = names & {*self.project.models}
        roles: Any = ("ask",) if names else ("admin",)
        budgets = [parse_budget("1G/day"), parse_budget("1M requests/day")] if limited else []
        made = create_key(self.project, departments=sorted(names), roles=roles, budgets=budgets)
        self.made.append(made)
        self.opened.add(made[0].id)
        return made

    @rule(made=keys)
    def revoke(self, made: tuple[Key, str]) -> None:
        revoke_key(self.project, made[0].id)
        self.opened.discard(made[0].id)

    @rule(made=keys)
    def expire(self, made: tuple[Key, str]) -> None:
        with writing(self.project) as session:
            session.execute(text("UPDATE keys SET expires_at = created_at WHERE id = :id"), {"id": made[0].id})
        self.opened.discard(made[0].id)

    @rule(name=st.sampled_from(TRAINED), version=st.sampled_from((1, 2)), share=st.sampled_from((30, 100)))
    def release(self, name: str, version: int, share: int) -> None:
        try:
            release(self.project, name, version, share=share)
        except RegistryError:
            assert share < 100
        except UnknownModelError:
            assert name not in self.project.models

    @rule(name=st.sampled_from(TRAINED))
    def roll_back(self, name: str) -> None:
        with suppress(RegistryError, UnknownModelError):  # there may have been no release before, or no department
            rollback(self.project, name)

    @rule(there=st.sets(st.sampled_from(DEPARTMENTS), min_size=1))
    def change_the_company(self, there: set[str]) -> None:
        """Have other departments, and the running server take it up."""
        file = self.project.root / "quintet.yaml"
        values = yaml.safe_load((self.root / "quintet.yaml").read_text())
        values["departments"] = {name: section for name, section in values["departments"].items() if name in there}
        file.write_text(yaml.safe_dump(values, sort_keys=False))
        self.loop.run_until_complete(self.app.state.services.current.reload())
        self.project = Project.load(self.project.root)

    @rule(made=keys, name=st.sampled_from((*DEPARTMENTS, "base", "tax@1", "estates@2", "tux")))
    def ask(self, made: tuple[Key, str], name: str) -> None:
        key, secret = made
        status, _, body = self.send(self.app, secret, "POST", f"/api/infer/{name}")
        department = name.partition("@")[0]
        if key.id not in self.opened:
            assert status == 401
        elif "ask" not in key.roles:
            assert status == 403
        else:
            is_there = department in key.departments and department in self.project.models
            assert status == ((503 if department == "family" else 200) if is_there else 404), body

    def look_around(self, made: tuple[Key, str]) -> None:
        """Hold all that a key sees against what it would see where there is nothing else."""
        key, secret = made
        hidden = [name for name in (*DEPARTMENTS, "base") if name not in key.departments]
        without = self.serve(self.without(hidden))
        # That server has been asked for what this one has, of what is there: it names what it has opened itself.
        opened = self.app.state.services.catalog._opened
        without.state.services.catalog._opened.update({n: e for n, e in opened.items() if e.department not in hidden})
        assert self.send(self.app, secret, "GET", "/v1/models")[0] == (200 if key.id in self.opened else 401)
        for method, path in [*self.requests(), *(() if "admin" in key.roles else FOR_ADMINISTRATORS)]:
            seen, expected = (self.send(app, secret, method, path) for app in (self.app, without))
            assert seen == expected, (method, path)
            for name in set(hidden) - {"base"}:  # which is a word of the schemas too
                assert name in path or name.encode() not in seen[2], (method, path)
        for name in hidden:
            for method, path in self.requests(name):
                status, headers, body = self.send(self.app, secret, method, path)
                other = self.send(self.app, secret, method, path.replace(name, NOBODY[name]))
                assert (status, headers, body.replace(name.encode(), NOBODY[name].encode())) == other, (method, path)
                assert status != 200

    def requests(self, *names: str) -> Iterator[tuple[str, str]]:
        if not names:
            yield from (
                ("GET", path) for path in ("/", "/health", "/ready", "/openapi.json", "/api/models", "/v1/models")
            )
            yield "POST", "/api/feedback"
            yield from (("POST", path) for path in ("/api/ask", "/v1/chat/completions?auto"))
        for name in names or DEPARTMENTS:
            for model in (name, f"{name}@1", f"{name}@9"):
                yield "GET", f"/v1/models/{model}"
                yield "POST", f"/v1/chat/completions?{model}"
                yield "POST", f"/api/infer/{model}"
            yield "POST", f"/api/{name}"

    def without(self, hidden: list[str]) -> Project:
        config = self.project.config
        departments = {name: section for name, section in config.departments.items() if name not in hidden}
        changed = config.model_copy(update={"departments": departments})
        return Project(self.project.root, changed, has_base="base" not in hidden)

    def serve(self, project: Project) -> FastAPI:
        app = create_app(project, self.engine)
        app.state.services = replace(app.state.services, started=0)
        return app

    def send(self, app: FastAPI, secret: str, method: str, path: str) -> Seen:
        """Return what is seen of an answer, without what varies from one to the next."""
        return self.loop.run_until_complete(self._send(app, secret, method, path))

    async def _send(self, app: FastAPI, secret: str, method: str, path: str) -> Seen:
        path, _, model = path.partition("?")
        chat = {"model": model, "messages": [{"role": "user", "content": "Hello?"}], "stream": True, "temperature": 0}
        opinion = {"request_id": "req_1", "rating": "up"}
        question = opinion if path == "/api/feedback" else chat if model else {"query": "Hello?", "temperature": 0}
        body = None if method == "GET" else question
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://firm") as client:
            response = await client.request(method, path, json=body, headers={"X-API-Key": secret})
        content = VARYING.sub(b"", response.content)
        varying: tuple[str, ...] = ("x-ratelimit-remaining", "x-ratelimit-reset", "x-request-id", "content-length")
        # Those who may ask a department share its cache; to others it must not show.
        varying = (*varying, "x-cache") if response.status_code == 200 else varying
        headers = {name: value for name, value in response.headers.items() if not name.startswith(varying)}
        return response.status_code, headers | {"length": str(len(content))}, content

    def teardown(self) -> None:
        for made in self.made:
            self.look_around(made)
        self.loop.close()


@pytest.mark.parametrize(("companies", "steps"), [(8, 10), pytest.param(50, 25, marks=pytest.mark.slow)])
def test_what_a_key_may_not_ask_is_not_there(firm: Path, companies: int, steps: int) -> None:
    Firm.root = firm
    run_state_machine_as_test(
        Firm,
        settings=settings(
            max_examples=companies, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
