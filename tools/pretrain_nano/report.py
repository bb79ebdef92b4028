"""Print what nano is worth: bits per byte beside yardsticks, fine-tuning scores, and answers to read.

python -m tools.pretrain_nano.report [--work .nano]
"""

import argparse
import gzip
import json
import lzma
import math
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from quintet.cli.scaffold import create_project
from quintet.config import Project
from quintet.evaluation.compare import evaluate
from quintet.evaluation.results import Evaluation
from quintet.registry.experts import Expert
from quintet.training.preparation import plan_run
from quintet.training.run import train
from tools.pretrain_nano.config import NanoConfig
from tools.pretrain_nano.tokenizer import END_OF_TEXT

console = Console(width=110)


@torch.inference_mode()
def model_bits(model: Any, ids: list[int], context: int) -> float:
    """Return the bits that the model needs for the ids: -log2 p, in windows of the context, half of it overlap."""
    total, stride = 0.0, context // 2
    for start in range(0, len(ids) - 1, stride):
        window = torch.tensor([ids[start : start + context]])
        scored = slice(0 if start == 0 else context - stride - 1, None)
        logits = model(window).logits[0, :-1].float()
        losses = torch.nn.functional.cross_entropy(logits, window[0, 1:], reduction="none")
        total += float(losses[scored].sum()) / math.log(2)
        if start + context >= len(ids):
            break
    return total


def bits_per_byte(config: NanoConfig, tokenizer: Any, model: Any) -> Table:
    """Return held-out bits per byte of each kind of text, for nano and for its yardsticks."""
    held = json.loads((config.work / "held.json").read_text("utf-8"))
    counts = np.bincount(np.load(config.work / "text.npy"), minlength=config.vocab_size) + 1.0
    unigram = -np.log2(counts / counts.sum())
    table = Table(
        "held-out text", "bytes", "nano", "unigram tokens", "xz", "gzip", title="Bits per byte (less is better)"
    )
    for kind, documents in held.items():
        text = END_OF_TEXT.join(documents)
        raw = text.encode()
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        rates = (
            model_bits(model, ids, config.context),
            float(unigram[ids].sum()),
            8 * len(lzma.compress(raw, preset=9)),
            8 * len(gzip.compress(raw, 9)),
        )
        table.add_row(kind, f"{len(raw):,}", *(f"{bits / len(raw):.3f}" for bits in rates))
    return table


def fine_tune(folder: Path) -> list[tuple[Expert, Evaluation]]:
    """Train every department of the sample company by LoRA with the sample's settings, and evaluate it."""
    create_project(folder)
    opened = Project.load(folder)
    # One method for all, whatever the sample's departments use.
    same = {name: d.model_copy(update={"training": {}}) for name, d in opened.config.departments.items()}
    project = Project(folder, opened.config.model_copy(update={"departments": same}))
    results = []
    for name in project.config.departments:
        expert = train(project, plan_run(project, name, "lora"))
        results.append((expert, evaluate(project, expert)))
    return results


def scores(results: list[tuple[Expert, Evaluation]]) -> Table:
    """Return held-out F1 of base and expert for each department."""
    table = Table("department", "base F1", "expert F1", "exact", "training seconds", title="LoRA on new phrasings")
    for expert, result in results:
        base, tuned = result.scores["base"], result.scores["expert"]
        row = (f"{base['f1']:.3f}", f"{tuned['f1']:.3f}", f"{tuned['exact_match']:.0%}")
        table.add_row(expert.department, *row, f"{expert.seconds:.0f}")
    return table


def main(config: NanoConfig) -> None:
    """Print the whole report."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(config.out)
    model = AutoModelForCausalLM.from_pretrained(config.out, dtype=torch.float32).eval()
    console.print(f"nano: {model.num_parameters():,} parameters, context {config.context}")
    console.print(bits_per_byte(config, tokenizer, model))
    with tempfile.TemporaryDirectory() as folder:
        results = fine_tune(Path(folder) / "wrenfield")
    console.print(scores(results))
    for item in results[0][1].items[::10][:10]:
        base, tuned = item.answers["base"], item.answers["expert"]
        console.print(f"\n{item.question}\n  expert ({tuned.metrics['f1']:.2f}): {tuned.text}", markup=False)
        console.print(f"  reference:     {item.reference}\n  base:          {base.text[:200]!r}", markup=False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=NanoConfig().work)
    parser.add_argument("--out", type=Path, default=NanoConfig().out)
    arguments = parser.parse_args()
    main(replace(NanoConfig(), work=arguments.work, out=arguments.out))
