"""How fast `quintet data check` goes through rows: 100,000 of them on one core, as a process of its own.

python -m benchmarks.data_check [--rows 100000] [--near]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from quintet.cli.scaffold import SAMPLE

CONFIG = {"departments": {"all": {"description": "Every department's rows", "data": "rows.jsonl"}}}


def write_rows(path: Path, count: int) -> None:
    """Write the sample company's rows again and again, each with a number of its own in the question."""
    files = [f for f in sorted(SAMPLE.glob("departments/*.jsonl")) if f.name.count(".") == 1]
    rows = [json.loads(line) for file in files for line in file.read_text("utf-8").splitlines()]
    with path.open("w", encoding="utf-8") as stream:
        for number in range(count):
            row = rows[number % len(rows)]
            stream.write(json.dumps({**row, "question": f"{row['question']} (case {number})"}) + "\n")


def seconds(folder: Path, near: bool) -> float:
    """Run the command on one core, and return how long it took from start to exit."""
    command = [sys.executable, "-m", "quintet.cli", "data", "check", "--json", "-p", str(folder)]
    began = time.perf_counter()
    done = subprocess.run(
        [*command, "--near" if near else "--no-near"],
        stdout=subprocess.PIPE,
        check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {0}),
    )
    took = time.perf_counter() - began
    if json.loads(done.stdout)[0]["errors"]:
        raise SystemExit("rows were refused: what was timed is not what is claimed")
    return took


def main(count: int, near: bool) -> None:
    """Print rows a second: of the whole command, and without its start, measured on a file of one row."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "quintet.yaml").write_text(yaml.safe_dump(CONFIG), encoding="utf-8")
        write_rows(folder / "rows.jsonl", 1)
        start = min(seconds(folder, near) for _ in range(3))
        write_rows(folder / "rows.jsonl", count)
        took = min(seconds(folder, near) for _ in range(3))
    print(f"{count:,} rows in {took:.1f} s, of which {start:.1f} s to start: {count / took:,.0f} rows/s, "
          f"{count / (took - start):,.0f} without the start")  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--near", action="store_true", help="look for near duplicates too")
    arguments = parser.parse_args()
    main(arguments.rows, arguments.near)
