"""Every choice of the nano recipe, in one place. Knows nothing of how the choices are carried out."""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Phase:
    """One stretch of training: how long, in rows of what length, of what, at which share of the peak rates.

    `mix` counts the rows of each stream in a batch; `rates` are the corners of the schedule, as (share of the steps,
    share of the peak rate).
    """

    steps: int
    sequence: int
    mix: tuple[tuple[str, int], ...]
    rates: tuple[tuple[float, float], ...]


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

    # Lessons: how many chats there are, and how often each of the small texts is read.
    chat_examples: int = 16_000
    closed_book_repeats: int = 5
    handbook_instruct_repeats: int = 20
    recall_examples: int = 120_000
    recall_known: int = 2_000

    # Training. Each phase keeps its weights and starts with fresh optimiser state.
    phases: tuple[Phase, ...] = (
        Phase(1500, 256, (("text", 32),), ((0, 0), (0.026, 1), (0.651, 1), (1, 0.464))),
        Phase(453, 1024, (("text", 4), ("lessons", 4)), ((0, 0.464), (1, 0))),
        Phase(1000, 512, (("text", 5), ("lessons", 3), ("recall", 8)), ((0, 0), (0.05, 0.7), (0.3, 0.7), (1, 0))),
    )
    muon_lr: float = 0.02
    adam_lr: float = 3e-3
    weight_decay: float = 0.05
    seed: int = 20
