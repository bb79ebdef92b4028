"""Pretrain nano: tokenise once, then one loop over packed tokens with Muon and AdamW, on CPU or GPU.

python -m tools.pretrain_nano.pretrain             # the whole recipe
python -m tools.pretrain_nano.pretrain --steps 200 --instruct-from 150 --work .nano-try --out .nano-try/out
"""

import argparse
import json
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from tools.pretrain_nano.config import NanoConfig
from tools.pretrain_nano.corpus import load_corpus, load_handbooks
from tools.pretrain_nano.instruct import closed_book, make_chats
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
    """Write tokenizer, `held.json`, `text.npy` and `instruct.npy` to the work folder, unless they are there."""
    work = config.work
    work.mkdir(parents=True, exist_ok=True)
    claim(work, choices(config))
    if (work / "prepared").exists():
        return PreTrainedTokenizerFast.from_pretrained(work / "tokenizer")
    train, held = load_corpus(config)
    handbooks = load_handbooks(config)
    documents = train + handbooks * config.handbook_repeats
    tokenizer = train_tokenizer([*train[::4], *documents[len(train) :]], config)
    tokenizer.save_pretrained(work / "tokenizer")
    (work / "held.json").write_text(json.dumps(held), encoding="utf-8")
    np.save(work / "text.npy", _tokenise(_shuffled(documents, config.seed), tokenizer))
    chats = [*make_chats(train, config.chat_examples, config.seed)]
    chats += [*closed_book(config.seed)] * config.closed_book_repeats
    lessons = [str(tokenizer.apply_chat_template(chat, tokenize=False)) for chat in chats]
    lessons += handbooks * config.handbook_instruct_repeats
    np.save(work / "instruct.npy", _tokenise(_shuffled(lessons, config.seed), tokenizer))
    (work / "prepared").touch()
    return tokenizer


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


def windows(config: NanoConfig, first: int) -> Iterator[torch.Tensor]:
    """Yield `[rows, sequence]` ids from step `first` on: text; then text and lessons in turn."""
    tokens = {name: np.load(config.work / f"{name}.npy") for name in ("text", "instruct")}
    at = {"text": first * config.batch_tokens, "instruct": 0}

    def take(name: str, length: int) -> np.ndarray:
        start = at[name] if at[name] + length <= len(tokens[name]) else 0
        at[name] = start + length
        return tokens[name][start : start + length].astype(np.int64)

    for step in range(first, config.steps):
        is_instruct = step >= config.instruct_from
        length = config.instruct_sequence if is_instruct else config.sequence
        names = ["instruct" if is_instruct and row % 2 else "text" for row in range(config.batch_tokens // length)]
        yield torch.from_numpy(np.stack([take(name, length) for name in names]))


def rate(step: int, config: NanoConfig) -> float:
    """Return the share of the peak learning rate: linear warm-up, constant, linear decay to zero."""
    warm = max(1, int(config.steps * config.warmup))
    return min(1.0, (step + 1) / warm, (config.steps - step) / (config.steps * config.decay))


def pretrain(config: NanoConfig) -> None:
    """Run the recipe and write `model.safetensors`, config and tokenizer to `config.out`.

    The phases are two runs of one loop, so that a stop costs one phase at most: each keeps its weights in the work
    folder, and starts with fresh optimiser state.
    """
    tokenizer = prepare(config)
    middle = config.work / "pretrained"
    if not (middle / "model.safetensors").exists():
        log = run_phase(build_model(config, tokenizer), config, 0, config.instruct_from)
        save(log.model, tokenizer, middle)
        (config.work / "pretraining.json").write_text(json.dumps(log.entries))
    log = run_phase(
        LlamaForCausalLM.from_pretrained(middle, dtype=torch.float32), config, config.instruct_from, config.steps
    )
    save(log.model, tokenizer, config.out)
    entries = json.loads((config.work / "pretraining.json").read_text()) + log.entries
    (config.out / "pretraining.json").write_text(
        json.dumps({"config": choices(config), "log": entries[::5]}, indent=1) + "\n"
    )


@dataclass
class Phase:
    """A trained model and what was logged on the way."""

    model: LlamaForCausalLM
    entries: list[dict[str, float]]


def run_phase(model: LlamaForCausalLM, config: NanoConfig, first: int, last: int) -> Phase:
    """Train from step `first` up to `last` of the one schedule."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = model.to(device)
    optimizers = build_optimizers(model, config)
    peaks = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    compiled = torch.compile(model)
    began, entries = time.monotonic(), []
    for step, ids in zip(range(first, last), windows(config, first), strict=False):
        ids = ids.to(device)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            loss = compiled(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, peak in zip(optimizers, peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * rate(step, config)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if step % 20 == 0 or step == last - 1:
            entries.append({"step": step, "loss": round(loss.item(), 4), "seconds": round(time.monotonic() - began)})
            print(f"{entries[-1]} of {last} steps", flush=True)
            if math.isnan(entries[-1]["loss"]):
                raise SystemExit("the loss is not a number: lower muon_lr")
    return Phase(model, entries)


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
    for field in ("out", "work", "steps", "instruct_from", "muon_lr", "batch_tokens"):
        kind = type(getattr(NanoConfig(), field))
        parser.add_argument(f"--{field.replace('_', '-')}", type=Path if issubclass(kind, Path) else kind)
    chosen = {key: value for key, value in vars(parser.parse_args()).items() if value is not None}
    pretrain(replace(NanoConfig(), **chosen))
