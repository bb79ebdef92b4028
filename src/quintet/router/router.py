"""The trained router: a question and those who may be asked → how likely it is for each. Trains nothing.

Each department has a yes-or-no of its own, a logistic regression. Among the candidates k of one who asks, their scores
being z,

    P(k) = exp(z_k) / (1 + sum of exp(z_c) over the candidates c)

and what is left is the likelihood of none of them. Departments that are no candidates are nowhere in it.

The file is safetensors: numbers and text, nothing that is run.
"""

import json
import math
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quintet.config import Project
from quintet.errors import NoRouterError
from quintet.files import replacing
from quintet.router.ngrams import pieces, words

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FORMAT = "1"
BLOCKS = {"words": words, "pieces": pieces}
"""What is counted of a text; each kind is weighed as one vector of length 1."""


def router_path(project: Project) -> Path:
    """Return where a project's router lies."""
    return project.runs / "router.safetensors"


@dataclass(frozen=True)
class Candidate:
    """A department, and how likely a question is for it."""

    department: str
    probability: float


@dataclass(frozen=True)
class Block:
    """What is known of one kind of n-grams, V of them: ids, rarity, what each says for K departments."""

    vocabulary: dict[str, int]
    idf_V: "NDArray[np.float32]"
    weights_VK: "NDArray[np.float32]"

    def scores(self, ngrams: list[str]) -> "NDArray[np.float32] | float":
        """Return what the n-grams of one text say for each department; 0 where none of them is known."""
        import numpy as np

        counts = Counter(id_ for ngram in ngrams if (id_ := self.vocabulary.get(ngram)) is not None)
        if not counts:
            return 0.0
        ids = np.fromiter(counts, np.int64, len(counts))
        often = np.fromiter(counts.values(), np.float32, len(counts))
        values = (1 + np.log(often)) * self.idf_V[ids]
        scores: NDArray[np.float32] = (values / np.linalg.norm(values)) @ self.weights_VK[ids]
        return scores


@dataclass(frozen=True)
class Router:
    """Tells departments apart; sure of one from `threshold` on, which kept the share of wrong ones to `max_error`.

    `digest` is that of what it was trained on.
    """

    departments: tuple[str, ...]
    blocks: dict[str, Block]
    intercepts_K: "NDArray[np.float32]"
    threshold: float
    max_error: float
    digest: str

    def rank(self, question: str, candidates: Collection[str]) -> list[Candidate]:
        """Return those of the candidates that it knows, the likeliest first."""
        # No score is so high that its exponential is infinite.
        odds = {
            name: math.exp(min(float(score), 50.0))
            for name, score in zip(self.departments, self.scores(question), strict=True)
            if name in candidates
        }
        total = 1 + sum(odds.values())
        ranked = sorted(odds, key=lambda name: -odds[name])
        return [Candidate(name, odds[name] / total) for name in ranked]

    def scores(self, question: str) -> "NDArray[np.float32]":
        """Return the score of each department, K of them."""
        scores_K = self.intercepts_K
        for kind, block in self.blocks.items():
            scores_K = scores_K + block.scores(BLOCKS[kind](question))
        return scores_K

    def is_sure(self, candidate: Candidate) -> bool:
        """Whether it is likely enough to be asked without asking back."""
        return candidate.probability >= self.threshold

    def save(self, path: Path) -> None:
        """Write it so that a reader finds the old one or the new one, never a part."""
        import numpy as np
        from safetensors.numpy import save

        tensors = {"intercepts": self.intercepts_K}
        for kind, block in self.blocks.items():
            text = "\n".join(block.vocabulary).encode()
            tensors |= {
                f"{kind}.vocabulary": np.frombuffer(text, np.uint8),
                f"{kind}.idf": block.idf_V,
                f"{kind}.weights": np.ascontiguousarray(block.weights_VK),
            }
        about = {
            "format": FORMAT,
            "departments": json.dumps(self.departments),
            "threshold": repr(self.threshold),
            "max_error": repr(self.max_error),
            "digest": self.digest,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as staged:
            staged.write_bytes(save(tensors, about))

    @classmethod
    def load(cls, path: Path) -> "Router":
        """Read what `save` wrote; raise NoRouterError when it is not there, or is none."""
        from safetensors import SafetensorError, safe_open

        if not path.is_file():
            raise NoRouterError(f"there is no router in {path.parent} yet")
        try:
            with safe_open(path, "numpy") as file:
                about = file.metadata() or {}
                if about.get("format") != FORMAT:
                    raise NoRouterError(f"{path} is no router of this version of Quintet")
                return cls(
                    tuple(json.loads(about["departments"])),
                    {kind: _block(file, kind) for kind in BLOCKS},
                    file.get_tensor("intercepts"),
                    float(about["threshold"]),
                    float(about["max_error"]),
                    about["digest"],
                )
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise NoRouterError(f"{path} cannot be read ({error})") from None


def _block(file: Any, kind: str) -> Block:
    text = file.get_tensor(f"{kind}.vocabulary").tobytes().decode()
    vocabulary = {ngram: number for number, ngram in enumerate(text.split("\n"))} if text else {}
    return Block(vocabulary, file.get_tensor(f"{kind}.idf"), file.get_tensor(f"{kind}.weights"))
