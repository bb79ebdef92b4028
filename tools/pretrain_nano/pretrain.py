"""Pretrain nano: tokenise once, then one loop over packed tokens with Muon and AdamW, on CPU or GPU.

    python -m tools.pretrain_nano.pretrain             # the whole recipe
    python -m tools.pretrain_nano.pretrain --tokens 2000000 --out /tmp/try
"""

import argparse
import json
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from tools.pretrain_nano.config import NanoConfig
from tools.pretrain_nano.corpus import load_corpus, load_handbooks
from tools.pretrain_nano.instruct import make_chats
from tools.pretrain_nano.tokenizer import END_OF_TEXT, train_tokenizer


def build_model(config: NanoConfig, tokenizer: PreTrainedTokenizerBase) -> LlamaForCausalLM:
    """Return a freshly initialised Llama of the configured shape."""
    torch.manual_seed(config.seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.kv_heads,
            max_position_embeddings=config.context,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def prepare(config: NanoConfig) -> PreTrainedTokenizerBase:
    """Write tokenizer, `text.npy`, `chat.npy` and `held.json` to the work folder, unless they are there."""
    work = config.work
    if (work / "chat.npy").exists():
        return PreTrainedTokenizerFast.from_pretrained(work / "tokenizer")
    work.mkdir(parents=True, exist_ok=True)
    train, held = load_corpus(config)
    handbooks = load_handbooks(config) * config.handbook_repeats
    tokenizer = train_tokenizer([*train[::4], *handbooks], config)
    tokenizer.save_pretrained(work / "tokenizer")
    (work / "held.json").write_text(json.dumps(held), encoding="utf-8")
    documents = train + handbooks
    order = np.random.default_rng(config.seed).permutation(len(documents))
    np.save(work / "text.npy", _tokenise((documents[i] + END_OF_TEXT for i in order), tokenizer))
    chats = make_chats(train, config.chat_examples, config.seed)
    rendered = (tokenizer.apply_chat_template(chat, tokenize=False) + END_OF_TEXT for chat in chats)
    np.save(work / "chat.npy", _tokenise(rendered, tokenizer))
    return tokenizer


def _tokenise(texts: Iterable[str], tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    ids: list[np.ndarray] = []
    batch: list[str] = []
    for text in [*texts, None]:
        if text is not None:
            batch.append(text)
        if batch and (text is None or len(batch) == 1000):
            ids += [np.array(row, np.uint16) for row in tokenizer(batch, add_special_tokens=False)["input_ids"]]
            batch = []
    return np.concatenate(ids)


def windows(config: NanoConfig, steps: int) -> Iterator[torch.Tensor]:
    """Yield `[rows, sequence]` ids: short rows of text first, then full-length rows of text and chat in turn."""
    tokens = {name: np.load(config.work / f"{name}.npy") for name in ("text", "chat")}
    at = {"text": 0, "chat": 0}

    def take(name: str, length: int) -> np.ndarray:
        start = at[name] if at[name] + length <= len(tokens[name]) else 0
        at[name] = start + length
        return tokens[name][start : start + length].astype(np.int64)

    for step in range(steps):
        instruct = step >= steps * (1 - config.instruct_share)
        length = config.instruct_sequence if instruct else config.sequence
        names = ["chat" if instruct and row % 2 else "text" for row in range(config.batch_tokens // length)]
        yield torch.from_numpy(np.stack([take(name, length) for name in names]))


def rate(step: int, steps: int, config: NanoConfig) -> float:
    """Return the share of the peak learning rate: linear warm-up, constant, linear decay to zero."""
    warm = max(1, int(steps * config.warmup))
    return min(1.0, (step + 1) / warm, (steps - step) / (steps * config.decay))


def pretrain(config: NanoConfig) -> None:
    """Run the recipe and write `model.safetensors`, config and tokenizer to `config.out`."""
    tokenizer = prepare(config)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = build_model(config, tokenizer).to(device)
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.Muon(matrices, lr=config.muon_lr, weight_decay=config.weight_decay),
        torch.optim.AdamW(others, lr=config.adam_lr, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    peaks = [group["lr"] for optimizer in optimizers for group in optimizer.param_groups]
    compiled = torch.compile(model)
    steps = config.tokens // config.batch_tokens
    began, log = time.monotonic(), []
    for step, ids in enumerate(windows(config, steps)):
        ids = ids.to(device)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            loss = compiled(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, peak in zip(optimizers, peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * rate(step, steps, config)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if step % 20 == 0 or step == steps - 1:
            entry = {"step": step, "loss": round(loss.item(), 4), "seconds": round(time.monotonic() - began)}
            log.append(entry)
            print(f"{entry} of {steps} steps", flush=True)
            if math.isnan(entry["loss"]):
                raise SystemExit("the loss is not a number: lower muon_lr")
        if step and step % 500 == 0:
            save(model, tokenizer, config.work / "checkpoint")
    save(model, tokenizer, config.out)
    settings = {key: value for key, value in asdict(config).items() if not isinstance(value, Path)}
    (config.out / "pretraining.json").write_text(json.dumps({"config": settings, "log": log[::10]}, indent=1) + "\n")


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write the model in bf16 and its tokenizer, as `from_pretrained` reads them."""
    copy = LlamaForCausalLM(model.config).to(torch.bfloat16)
    copy.load_state_dict(model.state_dict())
    copy.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for field in ("tokens", "out", "work", "muon_lr", "batch_tokens"):
        kind = type(getattr(NanoConfig(), field))
        parser.add_argument(f"--{field}", type=Path if issubclass(kind, Path) else kind)
    chosen = {key: value for key, value in vars(parser.parse_args()).items() if value is not None}
    pretrain(replace(NanoConfig(), **chosen))
