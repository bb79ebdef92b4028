"""Every choice of the nano recipe, in one place. Knows nothing of how the choices are carried out."""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class NanoConfig:
    """The shape of the model, what it reads, and how long it learns."""

    # Where things are.
    corpus: Path = ROOT.parent / "shared" / "corpus"
    sample: Path = ROOT / "src" / "quintet" / "sample"
    work: Path = ROOT / ".nano"
    out: Path = ROOT / "src" / "quintet" / "nano" / "weights"

    # Model: Llama with grouped-query attention and tied embeddings.
    vocab_size: int = 8192
    hidden_size: int = 256
    intermediate_size: int = 1024
    layers: int = 6
    heads: int = 4
    kv_heads: int = 2
    context: int = 1024

    # What it reads. Old novels are kept down: they teach fluent sentences, but not office English.
    gutenberg_share: float = 0.25
    holdout_every: int = 200
    handbook_repeats: int = 4

    # The instruction phase: how many chats there are, and how often each of the small texts is read.
    chat_examples: int = 16_000
    closed_book_repeats: int = 5
    handbook_instruct_repeats: int = 20

    # Training: one schedule over both phases; the instruction phase reads full-length rows, half of them more text.
    steps: int = 1953
    instruct_from: int = 1500
    batch_tokens: int = 8192
    sequence: int = 256
    instruct_sequence: int = 1024
    muon_lr: float = 0.02
    adam_lr: float = 3e-3
    weight_decay: float = 0.05
    warmup: float = 0.02
    decay: float = 0.5
    seed: int = 20
