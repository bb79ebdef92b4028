"""Pretrain nano: tokenise once, then one loop over packed tokens with Muon and AdamW, on CPU or GPU.

python -m tools.pretrain_nano.pretrain             # the whole recipe
python -m tools.pretrain_nano.pretrain --muon-lr 0.01 --work .nano-try --out .nano-try/out
"""

import argparse
import json
import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from tools.pretrain_nano.config import NanoConfig, Phase
from tools.pretrain_nano.corpus import load_corpus, load_handbooks
from tools.pretrain_nano.instruct import Chat, closed_book, make_chats
from tools.pretrain_nano.recall import make_recall
from tools.pretrain_nano.tokenizer import END_OF_TEXT, train_tokenizer

LOG = "pretraining.json"


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


def prepare(config: NanoConfig) -> PreTrainedTokenizerFast:
    """Write tokenizer, `held.json` and the ids of each stream to the work folder, unless they are there."""
    work = config.work
    work.mkdir(parents=True, exist_ok=True)
    claim(work, choices(config))
    if (work / "prepared").exists():
        return PreTrainedTokenizerFast.from_pretrained(work / "tokenizer")
    train, held = load_corpus(config)
    handbooks = load_handbooks(config)
    if not (work / "tokenizer").exists():
        sample = [*train[::4], *handbooks * config.handbook_repeats]
        train_tokenizer(sample, config).save_pretrained(work / "tokenizer")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(work / "tokenizer")
    (work / "held.json").write_text(json.dumps(held), encoding="utf-8")
    for name, documents in streams(config, train, handbooks, tokenizer).items():
        np.save(work / f"{name}.npy", _tokenise(_shuffled(documents, config.seed), tokenizer))
    (work / "prepared").touch()
    return tokenizer


def streams(
    config: NanoConfig, train: list[str], handbooks: list[str], tokenizer: PreTrainedTokenizerBase
) -> dict[str, list[str]]:
    """Return what the phases read, by the names that their mixes use."""
    chats = [*make_chats(train, config.chat_examples, config.seed)]
    chats += [*closed_book(config.seed)] * config.closed_book_repeats
    recall = make_recall(train, config.recall_examples, config.recall_known, config.seed)

    def render(chat: Chat) -> str:
        return str(tokenizer.apply_chat_template(chat, tokenize=False))

    return {
        "text": train + handbooks * config.handbook_repeats,
        "lessons": [*map(render, chats), *handbooks * config.handbook_instruct_repeats],
        "recall": [*map(render, recall)],
    }


def choices(config: NanoConfig) -> dict[str, object]:
    """Return what shapes the weights: every setting but where things are."""
    return {key: value for key, value in asdict(config).items() if not isinstance(value, Path)}


def claim(work: Path, wanted: dict[str, object]) -> None:
    """Refuse a work folder that was begun with other choices: its files would be taken for this recipe's."""
    note = work / "config.json"
    if not note.exists():
        note.write_text(json.dumps(wanted, indent=1), encoding="utf-8")
    elif json.loads(note.read_text("utf-8")) != wanted:
        raise SystemExit(f"{work} was begun with other choices ({note}); name another folder with --work, or delete it")


def _shuffled(documents: list[str], seed: int) -> list[str]:
    order = np.random.default_rng(seed).permutation(len(documents))
    return [documents[i] + END_OF_TEXT for i in order]


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


def windows(config: NanoConfig, index: int) -> Iterator[torch.Tensor]:
    """Yield the batches of phase `index`, `[rows, sequence]` ids each; streams go on where earlier phases left them."""
    phase, read = config.phases[index], Counter[str]()
    for earlier in config.phases[:index]:
        read.update({name: rows * earlier.sequence * earlier.steps for name, rows in earlier.mix})
    tokens = {name: np.load(config.work / f"{name}.npy") for name, _ in phase.mix}

    def take(name: str) -> np.ndarray:
        rows = len(tokens[name]) // phase.sequence
        start = read[name] // phase.sequence % rows * phase.sequence
        read[name] += phase.sequence
        return tokens[name][start : start + phase.sequence].astype(np.int64)

    for _ in range(phase.steps):
        yield torch.from_numpy(np.stack([take(name) for name, rows in phase.mix for _ in range(rows)]))


def rate(step: int, phase: Phase) -> float:
    """Return the share of the peak learning rate at a step: straight lines between the phase's corners."""
    shares, rates = zip(*phase.rates, strict=True)
    return float(np.interp((step + 1) / phase.steps, shares, rates))


def pretrain(config: NanoConfig) -> None:
    """Run the recipe and write `model.safetensors`, config and tokenizer to `config.out`.

    A phase that is done already, by the folder it left, is not run again: a stop costs one phase at most.
    """
    tokenizer = prepare(config)
    model = build_model(config, tokenizer)
    for index in range(len(config.phases)):
        done = config.work / f"phase-{index + 1}"
        if not (done / LOG).exists():
            entries = run_phase(model, config, index)
            save(model, tokenizer, done)
            (done / LOG).write_text(json.dumps(entries))
        model = LlamaForCausalLM.from_pretrained(done, dtype=torch.float32)
    save(model, tokenizer, config.out)
    logs = [json.loads((config.work / f"phase-{i + 1}" / LOG).read_text()) for i in range(len(config.phases))]
    note = {"config": choices(config), "log": [log[::5] for log in logs]}
    (config.out / LOG).write_text(json.dumps(note, indent=1) + "\n")


def run_phase(model: LlamaForCausalLM, config: NanoConfig, index: int) -> list[dict[str, float]]:
    """Train the model in place through phase `index`, and return what was logged on the way."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)
    phase, began = config.phases[index], time.monotonic()
    optimizers = build_optimizers(model, config)
    peaks = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    compiled, entries = torch.compile(model), []
    for step, ids in enumerate(windows(config, index)):
        ids = ids.to(device)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            loss = compiled(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, peak in zip(optimizers, peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * rate(step, phase)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if step % 20 == 0 or step == phase.steps - 1:
            entries.append({"step": step, "loss": round(loss.item(), 4), "seconds": round(time.monotonic() - began)})
            print(f"phase {index + 1}: {entries[-1]} of {phase.steps} steps", flush=True)
            if math.isnan(entries[-1]["loss"]):
                raise SystemExit("the loss is not a number: lower muon_lr")
    return entries


def build_optimizers(model: LlamaForCausalLM, config: NanoConfig) -> list[torch.optim.Optimizer]:
    """Return Muon for the layers' matrices (Jordan et al. 2024) and AdamW for embeddings and norms."""
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    return [
        torch.optim.Muon(matrices, lr=config.muon_lr, weight_decay=config.weight_decay),
        torch.optim.AdamW(others, lr=config.adam_lr, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write the model in bf16 and its tokenizer, as `from_pretrained` reads them."""
    copy = LlamaForCausalLM(model.config).to(torch.bfloat16)
    copy.load_state_dict(model.state_dict())
    copy.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for field in ("out", "work", "muon_lr", "adam_lr"):
        kind = type(getattr(NanoConfig(), field))
        parser.add_argument(f"--{field.replace('_', '-')}", type=Path if issubclass(kind, Path) else kind)
    chosen = {key: value for key, value in vars(parser.parse_args()).items() if value is not None}
    pretrain(replace(NanoConfig(), **chosen))
