"""What a streamed token costs the server: CPU time over HTTP, with many streams of nano at once.

python -m benchmarks.streaming [--streams 32] [--tokens 200] [--rounds 3] [--temperature 0.7] [--against SRC]

The server is `quintet serve` in a process of its own, asked as `base`. With `--against`, the source tree of another
version is measured in turn with this one. Linux only: CPU times are those of /proc. The client takes its share of the
machine, so compare within one run.
"""

import argparse
import asyncio
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

OWN = Path(__file__).parents[1] / "src"
TICK = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cost:
    """Of one round: seconds of CPU, in all and of the thread that speaks HTTP; tokens; seconds; first tokens."""

    cpu: float
    loop: float
    tokens: int
    seconds: float
    first: list[float]

    def tell(self, name: str) -> None:
        """Print it for a token."""
        first = statistics.median(self.first) * 1e3
        cpu, loop = (seconds / self.tokens * 1e6 for seconds in (self.cpu, self.loop))
        print(
            f"{name:8} {cpu:7.0f} us CPU a token, {loop:6.0f} of it on the loop's thread; "
            f"{self.tokens / self.seconds:6.0f} tokens/s; first token {first:5.0f} ms",
            flush=True,
        )


def cpu_seconds(task: Path) -> float:
    """Return user and system time of a process or thread."""
    fields = (task / "stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK


@contextmanager
def server(source: Path, root: Path) -> Iterator[tuple[int, int]]:
    """Serve a project of nano from a source tree; yield the process's id and its port."""
    environment = {**os.environ, "PYTHONPATH": str(source)}
    command = [sys.executable, "-u", "-m", "quintet.cli", "serve", str(root), "--port", "0"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as it:
        try:
            assert it.stdout is not None
            line = next(line for line in it.stdout if "http://" in line)
            found = re.search(r":(\d+)", line.partition("http://")[2])
            assert found is not None
            port = int(found[1])
            for _ in range(100):
                with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                time.sleep(0.1)
            yield it.pid, port
        finally:
            it.terminate()


async def stream(port: int, body: dict[str, object]) -> tuple[int, float]:
    """Ask, and return how many tokens came, as the answer's end says, and the seconds to the first event."""
    content = json.dumps(body).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"  # noqa: E501
    began, first, tokens = time.perf_counter(), 0.0, 0
    writer.write(head.encode() + content)
    async for line in reader:
        if line.startswith(b"data: "):
            first = first or time.perf_counter() - began
            if b'"usage": {' in line:
                tokens = json.loads(line[6:])["usage"]["completion_tokens"]
            if line.startswith(b"data: [DONE]"):
                break
    writer.close()
    return tokens, first


async def measure(pid: int, port: int, options: argparse.Namespace, seed: int) -> Cost:
    """Have so many streams at once, and return what they cost the server."""
    bodies = [
        {"model": "base", "stream": True, "temperature": options.temperature, "max_tokens": options.tokens,
         "stream_options": {"include_usage": True}, "logit_bias": {},
         "messages": [{"role": "user", "content": f"Tell me a long story, number {seed} of {one}, about work."}]}
        for one in range(options.streams)
    ]  # fmt: skip
    process = Path(f"/proc/{pid}")
    before, loop, began = cpu_seconds(process), cpu_seconds(process / "task" / str(pid)), time.perf_counter()
    done = await asyncio.gather(*(stream(port, body) for body in bodies))
    return Cost(
        cpu_seconds(process) - before,
        cpu_seconds(process / "task" / str(pid)) - loop,
        sum(tokens for tokens, _ in done),
        time.perf_counter() - began,
        [first for _, first in done],
    )


def main(options: argparse.Namespace) -> None:
    """Measure the trees in turn, and print each round and the medians."""
    trees = {"this": OWN} | ({"against": options.against} if options.against else {})
    costs: dict[str, list[Cost]] = {name: [] for name in trees}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "data.jsonl").write_text('{"question": "Is this trained?", "answer": "It is not."}\n', "utf-8")
        (root / "quintet.yaml").write_text(
            "base_model: nano\nserving: {precision: float32}\n"
            "departments: {hr: {description: People., data: data.jsonl}}\n",
            "utf-8",
        )
        for turn in range(options.rounds):
            for name, source in trees.items():
                with server(source, root) as (pid, port):
                    asyncio.run(measure(pid, port, options, seed=1000 + turn))  # warm
                    cost = asyncio.run(measure(pid, port, options, seed=turn))
                costs[name].append(cost)
                cost.tell(name)
    for what in ("cpu", "loop"):
        medians = {name: statistics.median(getattr(c, what) / c.tokens for c in found) for name, found in costs.items()}
        ratio = f", {medians['against'] / medians['this']:.2f} times less" if options.against else ""
        print(f"median {what}: {medians['this'] * 1e6:.0f} us a token{ratio}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--against", type=Path)
    main(parser.parse_args())
