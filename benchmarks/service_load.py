"""What a real server does under load: 200 clients, floods, idle connections, and its end in the middle of it all.

python -m benchmarks.service_load [BASE] [--clients 200] [--seconds 60] [--idle 10000] [--departments 4]

Without a BASE it is nano. The server is `quintet serve` in a process of its own; experts are random, and what they say
does not matter. Clients run on the same machine and take their share of it.
"""

import argparse
import asyncio
import random
import re
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import torch
import yaml
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoTokenizer

from quintet.config import Project
from quintet.files import digest_files
from quintet.models.base_model import NANO_FOLDER, base_digest, load_model
from quintet.registry.experts import Expert, publish
from quintet.registry.releases import release

FILES = ("adapter_config.json", "adapter_model.safetensors")
WORDS = "how many days of leave do I get when is pay day where may I park who approves travel and overtime".split()
TOKENS = 32
BESIDE_CLIENTS = 50
WARM_S = 20
STORE_KIB = 100_000
"""Of the size of a mapping: of a server of nano only keys and values, and torch's own library, are as large."""


def make_company(root: Path, base: str, departments: int) -> Project:
    """Write a project whose departments have random experts, released."""
    names = [f"department-{number}" for number in range(departments)]
    (root / "data.jsonl").write_text('{"question": "Is this trained?", "answer": "It is not."}\n')
    sections = {name: {"description": name, "data": "data.jsonl"} for name in names}
    (root / "quintet.yaml").write_text(yaml.safe_dump({"base_model": base, "departments": sections}))
    project = Project.load(root)
    options = LoraConfig(task_type="CAUSAL_LM", r=8, target_modules="all-linear", init_lora_weights=False)
    model = get_peft_model(load_model(base, "cpu", torch.float32), options)
    for name in names:
        publish_expert(project, name, model)
        release(project, name, 1)
    return project


def publish_expert(project: Project, department: str, model: PeftModel) -> None:
    """Publish new random weights as the department's first version."""
    for weight in (each for name, each in model.named_parameters() if "lora_" in name):
        torch.nn.init.normal_(weight, std=0.02)
    run = project.runs / department / "1"
    staged, base = run / "staged", project.config.base_model
    model.save_pretrained(str(staged))
    AutoTokenizer.from_pretrained(base).save_pretrained(staged)
    digest = digest_files(*(staged / name for name in FILES))
    expert = Expert(
        department=department, version=1, method="lora", trained="lora", objective="sft", parent=None, base_model=base,
        base_digest=base_digest(base), data_digest="", fingerprint="", digest=digest, files=FILES, seconds=0.0,
        peak_bytes=None, examples=1, folder=run / "expert",
    )  # fmt: skip
    publish(staged, expert, project)


@dataclass
class Server:
    """A running server, and what can be seen of it from outside."""

    process: subprocess.Popen[str]
    url: str

    @property
    def memory(self) -> tuple[float, float]:
        """Resident memory in MiB: all but the store of keys and values, and that store, a budget that is used up."""
        text = Path(f"/proc/{self.process.pid}/smaps").read_text()
        mappings = re.findall(r"^Size:\s+(\d+) kB\n(?:.*\n)*?Rss:\s+(\d+) kB$", text, re.MULTILINE)
        stored = sum(int(resident) for size, resident in mappings if int(size) >= STORE_KIB)
        return sum(int(resident) for _, resident in mappings) / 1024 - stored / 1024, stored / 1024


@contextmanager
def serving(project: Project) -> Iterator[Server]:
    """Serve a project in a process of its own."""
    command = [sys.executable, "-u", "-m", "quintet.cli", "serve", str(project.root), "--port", "0"]
    with (project.root / "server.log").open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            found = re.search(r"http://\S+\d", process.stdout.readline() if process.stdout else "")
            if found is None:
                raise SystemExit((project.root / "server.log").read_text())
            yield Server(process, found[0])
        finally:
            process.kill()
            process.wait()


@dataclass
class Seen:
    """What clients saw: how often each status, how long answers took, how many refused requests were let in later."""

    statuses: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    returns: list[bool] = field(default_factory=list)


async def ask(client: httpx.AsyncClient, department: str, rng: random.Random, tokens: int = TOKENS) -> httpx.Response:
    """Ask a question of six words that hardly anybody asked before."""
    body = {"query": " ".join(rng.choices(WORDS, k=6)), "max_tokens": tokens}
    return await client.post(f"/api/{department}", json=body, timeout=120)


async def insist(
    client: httpx.AsyncClient, departments: Sequence[str], seen: Seen, until: float, seed: int, tokens: int = TOKENS
) -> None:
    """Ask one question after the other, and when sent away, come back when told to."""
    rng, is_return = random.Random(seed), False
    while time.perf_counter() < until:
        began = time.perf_counter()
        try:
            response = await ask(client, rng.choice(departments), rng, tokens)
            status = str(response.status_code)
        except httpx.TransportError as error:
            seen.statuses[type(error).__name__] += 1
            return
        seen.statuses[status] += 1
        if is_return:
            seen.returns.append(status == "200")
        is_return = status == "429"
        if status == "200":
            seen.seconds.append(time.perf_counter() - began)
        elif "retry-after" in response.headers:
            seconds = int(response.headers["retry-after"])
            if time.perf_counter() + seconds > until:
                return
            await asyncio.sleep(seconds)
        else:
            print(f"refused: {status} {response.text}")


async def crowd(client: httpx.AsyncClient, departments: Sequence[str], clients: int, seconds: float) -> Seen:
    """Have so many clients ask all departments for so long."""
    seen, until = Seen(), time.perf_counter() + seconds
    await asyncio.gather(*(insist(client, departments, seen, until, number) for number in range(clients)))
    return seen


async def alone(client: httpx.AsyncClient, department: str, times: int) -> list[float]:
    """Return how long each of some answers took that one client asks for, one after the other."""
    rng, took = random.Random(1), []
    for _ in range(times):
        began = time.perf_counter()
        (await ask(client, department, rng)).raise_for_status()
        took.append(time.perf_counter() - began)
    return took


def told(took: Sequence[float]) -> str:
    """Return median and 95th percentile in milliseconds."""
    return f"p50 {statistics.median(took) * 1e3:.0f} ms, p95 {percentile(took) * 1e3:.0f} ms"


def percentile(took: Sequence[float]) -> float:
    """Return the 95th."""
    return statistics.quantiles(took, n=20)[18]


async def flood(server: Server, departments: Sequence[str], clients: int, seconds: float) -> None:
    """Have many clients ask all departments; tell what they saw, and what the server is like after it."""
    async with connected(server, clients) as client:
        for department in departments:
            await alone(client, department, 3)
        before = await alone(client, departments[0], 40)
        await crowd(client, departments, clients, WARM_S)
        memory, store = server.memory
        began = time.perf_counter()
        seen = await crowd(client, departments, clients, seconds)
        took = time.perf_counter() - began
        again = await ask(client, departments[0], random.Random(0))
        after = await alone(client, departments[0], 40)
    print(f"{clients} clients for {seconds:g} s: {dict(seen.statuses)}, {seen.statuses['200'] / took:.1f} answers/s")
    print(f"  answered: {told(seen.seconds)}; let in on return: {sum(seen.returns)} of {len(seen.returns)}")
    print(f"  next request: {again.status_code}; one client: {told(before)} before, {told(after)} after")
    memory_after, store_after = server.memory
    print(f"  memory: {memory:.0f} MiB before (after a first flood of {WARM_S} s), {memory_after:.0f} MiB after; "
          f"keys and values kept: {store:.0f} MiB, {store_after:.0f} MiB")  # fmt: skip


async def beside(server: Server, departments: Sequence[str], times: int) -> None:
    """Tell how long one client's answers take alone, and beside the flood of another department."""
    quiet, flooded = departments[:2]
    async with connected(server, BESIDE_CLIENTS + 1) as client:
        await alone(client, quiet, 5)
        by_itself = await alone(client, quiet, times)
        until, seen = time.perf_counter() + 600, Seen()
        asking = [asyncio.create_task(insist(client, [flooded], seen, until, n)) for n in range(BESIDE_CLIENTS)]
        await asyncio.sleep(2)
        not_alone = await alone(client, quiet, times)
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
    ratio = percentile(not_alone) / percentile(by_itself)
    print(f"one client alone: {told(by_itself)}; beside {BESIDE_CLIENTS} of another department: {told(not_alone)}: "
          f"p95 {ratio:.2f} times")  # fmt: skip


async def idle(server: Server, department: str, connections: int) -> None:
    """Tell what connections cost that do nothing."""
    host, port = server.url.removeprefix("http://").split(":")
    async with connected(server, 1) as client:
        before, (memory, _) = await alone(client, department, 40), server.memory
        made: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        for start in range(0, connections, 500):
            opening = (asyncio.open_connection(host, int(port)) for _ in range(min(500, connections - start)))
            made += await asyncio.gather(*opening)
        for _, writer in made:  # each has asked once, and is kept alive
            writer.write(b"GET /ready HTTP/1.1\r\nHost: q\r\n\r\n")
        await asyncio.sleep(15)
        during, (held, _) = await alone(client, department, 40), server.memory
    open_ = sum(not reader.at_eof() for reader, _ in made)
    print(f"{open_} idle connections: {told(during)} beside them, {told(before)} without; "
          f"{(held - memory) * 1024 / connections:.1f} KiB each")  # fmt: skip
    for _, writer in made:
        writer.close()


async def end(server: Server, departments: Sequence[str], clients: int) -> None:
    """Tell the server to end in the middle of a flood; tell what its clients saw."""
    async with connected(server, clients) as client:
        seen, until = Seen(), time.perf_counter() + 60
        asking = [asyncio.create_task(insist(client, departments, seen, until, n)) for n in range(clients)]
        await asyncio.sleep(3)
        answered, began = seen.statuses["200"], time.perf_counter()
        server.process.send_signal(signal.SIGTERM)
        code = await asyncio.to_thread(server.process.wait)
        took = time.perf_counter() - began
        for task in asking:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*asking, return_exceptions=True)
    print(f"told to end under {clients} clients: exit code {code} after {took:.1f} s, "
          f"{seen.statuses['200'] - answered} more answered; in all {dict(seen.statuses)}")  # fmt: skip


def connected(server: Server, connections: int) -> httpx.AsyncClient:
    """Return a client of so many connections."""
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    return httpx.AsyncClient(base_url=server.url, limits=limits, trust_env=False)


async def measure(server: Server, departments: Sequence[str], options: argparse.Namespace) -> None:
    """Tell it all."""
    await flood(server, departments, options.clients, options.seconds)
    await beside(server, departments, options.times)
    if options.idle:
        await idle(server, departments[0], options.idle)
    await end(server, departments, options.clients)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", nargs="?", default=str(NANO_FOLDER))
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--idle", type=int, default=10_000)
    parser.add_argument("--departments", type=int, default=4)
    parser.add_argument("--times", type=int, default=60, help="answers of the client beside a flood")
    options = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with tempfile.TemporaryDirectory() as folder:
        project = make_company(Path(folder), options.base, options.departments)
        with serving(project) as server:
            asyncio.run(measure(server, list(project.config.departments), options))


if __name__ == "__main__":
    main()
