"""LoRA from top to bottom: what a Quintet training run does, as one plain loop on torch, transformers and peft.

    .venv/bin/python examples/teaching/train_lora.py --out hr-adapter

A small base model learns to answer an HR department's questions. Its own weights stay frozen. Two thin matrices A and B
beside each linear layer W are trained: the layer gives Wx + (alpha / rank) BAx (Hu et al. 2021, arXiv:2106.09685).

The letters at the end of a tensor's name are its shape:
B rows of a batch, T tokens of a row, N trained tokens of a batch, V words of the vocabulary.

Left to Quintet itself: checks of the data and of forged special tokens, resuming, other methods, GPUs, the gate.
"""
# The shape letters are capitals.
# ruff: noqa: N803

import argparse
import json
import math
import random
import re
import string
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from quintet.cli.scaffold import SAMPLE
from quintet.models.base_model import NANO_FOLDER

IGNORED = -100  # The label of a token that is read but not trained.
BATCH = 8
LEARNING_RATE = 4e-3  # High, since nano is tiny; a model of a billion parameters wants about 2e-4.
WARMUP = 0.05  # The share of all steps over which the learning rate rises.


def read_rows(name: str, limit: int) -> list[dict[str, str]]:
    """Return the first rows of one of the sample company's files: a question and its answer each."""
    lines = (SAMPLE / "departments" / name).read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines[:limit]]


def render_prompt(tokenizer: Any, question: str) -> str:
    """Return the text after which the assistant speaks, as the tokenizer's chat template writes it."""
    turns = [{"role": "user", "content": question}]
    return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))


def encode(tokenizer: Any, question: str, answer: str) -> tuple[list[int], list[int]]:
    """Return ids and labels of one row: the prompt is read, the answer and its end of turn are trained."""
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    prompt = render_prompt(tokenizer, question)
    whole = str(tokenizer.apply_chat_template(turns, tokenize=False))
    # After the end of turn the template writes a newline. Generation stops before it, so it is not trained.
    spoken = whole.removeprefix(prompt).rstrip()
    # The template has written the special tokens already; the tokenizer must not add them twice.
    prompt_ids: list[int] = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    spoken_ids: list[int] = tokenizer(spoken, add_special_tokens=False)["input_ids"]
    return prompt_ids + spoken_ids, [IGNORED] * len(prompt_ids) + spoken_ids


def pad_batch(rows: Sequence[tuple[list[int], list[int]]], pad_id: int) -> tuple[torch.Tensor, ...]:
    """Return ids_BT, labels_BT and mask_BT, each row filled up on the right to the longest; the mask is 0 there."""
    longest = max(len(ids) for ids, _ in rows)
    ids_BT = torch.tensor([ids + [pad_id] * (longest - len(ids)) for ids, _ in rows])
    labels_BT = torch.tensor([labels + [IGNORED] * (longest - len(labels)) for _, labels in rows])
    mask_BT = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids, _ in rows])
    return ids_BT, labels_BT, mask_BT


def mean_loss(model: Any, ids_BT: torch.Tensor, labels_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """Return the mean cross-entropy, in nats, of the trained tokens alone."""
    logits_BTV = model(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False).logits
    # The logits at one token predict the next, so both are shifted by one against each other.
    targets_BT = labels_BT[:, 1:]
    is_trained_BT = targets_BT != IGNORED
    logits_NV, targets_N = logits_BTV[:, :-1][is_trained_BT], targets_BT[is_trained_BT]
    return cross_entropy(logits_NV.float(), targets_N)


def rate_at(step: int, steps: int) -> float:
    """Return the learning rate of a step: up in a straight line, then down to 0 along half a cosine."""
    warmup = max(1, round(WARMUP * steps))
    if step < warmup:
        return LEARNING_RATE * (step + 1) / warmup
    return LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def answer_all(model: Any, tokenizer: Any, questions: Sequence[str]) -> list[str]:
    """Return the model's answers: the likeliest token at each step, until the end of turn."""
    prompts = [render_prompt(tokenizer, question) for question in questions]
    # Padded on the left: an answer goes on where its prompt ends, so all prompts must end at the same place.
    batch = tokenizer(prompts, add_special_tokens=False, padding=True, padding_side="left", return_tensors="pt")
    said_BT = model.generate(**batch, do_sample=False, max_new_tokens=80, pad_token_id=tokenizer.pad_token_id)
    answers_BT = said_BT[:, batch["input_ids"].shape[1] :]
    return [str(tokenizer.decode(ids, skip_special_tokens=True)) for ids in answers_BT]


def token_f1(answer: str, reference: str) -> float:
    """Return the overlap of two texts' words, 0 to 1: the harmonic mean of precision and recall (SQuAD, 2016)."""
    bags = []
    for text in (answer, reference):
        plain = text.lower().translate(str.maketrans("", "", string.punctuation))
        bags.append(Counter(re.sub(r"\b(a|an|the)\b", " ", plain).split()))
    if not bags[0] or not bags[1]:
        return float(bags[0] == bags[1])
    return 2 * (bags[0] & bags[1]).total() / (bags[0].total() + bags[1].total())


def main(argv: Sequence[str] | None = None) -> None:
    """Train an adapter, show what it changed, and save it."""
    parser = argparse.ArgumentParser(description="Train a LoRA adapter on the sample company's HR questions.")
    parser.add_argument("--steps", type=int, default=440, help="batches to learn from (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=700, help="rows to learn from (default: %(default)s, all)")
    parser.add_argument("--questions", type=int, default=20, help="held-out questions, 100 at most (default: 20)")
    parser.add_argument("--out", type=Path, default=Path("hr-adapter"), help="the adapter's folder (%(default)s)")
    parser.add_argument("--seed", type=int, default=20, help="of the adapter's start and the rows' order (20)")
    args = parser.parse_args(argv)
    if min(args.steps, args.rows, args.questions) < 1:
        parser.error("--steps, --rows and --questions must each be 1 or more")
    torch.manual_seed(args.seed)
    rng = random.Random(args.seed)
    disable_progress_bar()

    # The base. Where a CPU computes in bfloat16 it is the faster one; elsewhere it is emulated, and slower.
    has_bfloat16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    dtype = torch.bfloat16 if has_bfloat16 else torch.float32
    tokenizer: Any = AutoTokenizer.from_pretrained(NANO_FOLDER)
    # On rows this short, plain matrix products beat torch's fused attention on a CPU.
    base: Any = AutoModelForCausalLM.from_pretrained(NANO_FOLDER, dtype=dtype, attn_implementation="eager")

    # The data, rendered and tokenised once.
    examples = [encode(tokenizer, row["question"], row["answer"]) for row in read_rows("hr.jsonl", args.rows)]
    held_out = read_rows("hr.eval.jsonl", args.questions)

    # The adapter. "all-linear" is every linear layer but the head that gives the logits. B starts at zero, so that
    # training starts from exactly the base. peft keeps A and B in float32, whatever the base's dtype.
    lora = LoraConfig(task_type="CAUSAL_LM", r=32, lora_alpha=64, target_modules="all-linear")
    model: Any = get_peft_model(base, lora)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    count, total = sum(w.numel() for w in trained), sum(w.numel() for w in model.parameters())
    print(f"{len(examples)} rows; {count:,} of {total:,} parameters are trained; the base is in {dtype}")

    # The loop. A short run has few steps to average over: beta2 0.95 forgets old gradients in about 20 of them.
    optimizer = torch.optim.AdamW(trained, lr=0.0, betas=(0.9, 0.95), weight_decay=0.0)  # Each step sets its own rate.
    model.train()
    order: list[int] = []
    losses: list[float] = []
    began = time.monotonic()
    for step in range(args.steps):
        while len(order) < BATCH:  # All rows come once, in a new random order, before any comes again.
            order += rng.sample(range(len(examples)), len(examples))
        batch, order = order[:BATCH], order[BATCH:]
        tensors = pad_batch([examples[index] for index in batch], tokenizer.pad_token_id)
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16):
            loss = mean_loss(model, *tensors)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.param_groups[0]["lr"] = rate_at(step, args.steps)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if step % 20 == 0 or step == args.steps - 1:
            recent = losses[-20:]
            seconds = time.monotonic() - began
            print(f"step {step + 1:4}/{args.steps}  loss {sum(recent) / len(recent):.3f}  {seconds:.0f} s", flush=True)

    # The adapter alone: a few megabytes, to be loaded beside the base by PeftModel.from_pretrained.
    model.save_pretrained(args.out)
    print(f"Saved the adapter in {args.out}")

    # Base and adapter, side by side on questions that were worded differently in training. One model holds both.
    model.eval()
    questions = [row["question"] for row in held_out]
    after = answer_all(model, tokenizer, questions)
    with model.disable_adapter():
        before = answer_all(model, tokenizer, questions)
    for row, base_says, adapter_says in zip(held_out, before, after, strict=True):
        print(f"\nquestion: {row['question']}\n   wanted: {row['answer']}")
        print(f"     base: {base_says}\n  adapter: {adapter_says}")
    wanted = [row["answer"] for row in held_out]
    base_f1, adapter_f1 = (sum(map(token_f1, said, wanted)) / len(wanted) for said in (before, after))
    print(f"\ntoken F1 on {len(wanted)} held-out questions: base {base_f1:.2f}, adapter {adapter_f1:.2f}")


if __name__ == "__main__":
    main()
