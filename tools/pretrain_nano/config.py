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
    work: Path = ROOT / "build" / "nano"
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
    chat_examples: int = 60_000

    # Training. The last `instruct_share` of the tokens mixes chat and text half and half.
    tokens: int = 16_000_000
    instruct_share: float = 0.25
    sequence: int = 256
    instruct_sequence: int = 1024
    batch_tokens: int = 8192
    muon_lr: float = 0.02
    adam_lr: float = 3e-3
    weight_decay: float = 0.05
    warmup: float = 0.02
    decay: float = 0.5
    seed: int = 20
