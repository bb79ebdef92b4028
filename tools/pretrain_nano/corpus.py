"""Documents in, documents out: what nano reads and what is held out. Knows nothing of tokens."""

import gzip
import lzma
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from math import log
from pathlib import Path

from tools.pretrain_nano.config import NanoConfig

SEPARATOR = "<|endoftext|>"


def read_documents(path: Path, limit: int | None = None) -> Iterator[str]:
    """Yield the documents of one `.gz` or `.xz` corpus file, at most `limit` of them."""
    opener = lzma.open if path.suffix == ".xz" else gzip.open
    lines: list[str] = []
    count = 0
    with opener(path, "rt", encoding="utf-8") as stream:
        for line in stream:
            if line.rstrip("\n") != SEPARATOR:
                lines.append(line)
                continue
            yield "".join(lines).strip()
            lines, count = [], count + 1
            if limit is not None and count >= limit:
                return
    if lines:
        yield "".join(lines).strip()


class NovelDetector:
    """Tell old prose from working English by the log-odds of its words.

    Naive Bayes with add-one smoothing: the mix names no sources, so two files of known kind teach it.
    """

    def __init__(self, novels: Iterable[str], manuals: Iterable[str]) -> None:
        novel, manual = (Counter(w for d in docs for w in _words(d)) for docs in (novels, manuals))
        a, b = sum(novel.values()), sum(manual.values())
        common = [w for w in novel | manual if novel[w] + manual[w] >= 20]
        self.odds = {w: log((novel[w] + 1) / a) - log((manual[w] + 1) / b) for w in common}

    def __call__(self, document: str) -> bool:
        """True when the document reads like a novel."""
        return sum(self.odds.get(word, 0.0) for word in _words(document[:4000])) > 0


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())


def _bucket(document: str, buckets: int) -> int:
    return zlib.crc32(document[:500].encode()) % buckets


def load_corpus(config: NanoConfig) -> tuple[list[str], dict[str, list[str]]]:
    """Return the training documents, and the held-out ones under the name of their kind."""
    novels = read_documents(config.corpus / "gutenberg-extra.txt.gz", 400)
    manuals = read_documents(config.corpus / "msdocs-prose.txt.gz", 3000)
    is_novel = NovelDetector(novels, manuals)
    train: list[str] = []
    held: dict[str, list[str]] = {"prose": [], "health": [], "work": []}
    for document in read_documents(config.corpus / "mix.txt.xz"):
        kind = _kind(document, is_novel)
        if _bucket(document, config.holdout_every) == 0:
            held[kind].append(document)
        elif kind != "prose" or _bucket(document, 1000) < 1000 * config.gutenberg_share:
            train.append(document)
    return train, held


def _kind(document: str, is_novel: NovelDetector) -> str:
    if document.split("\n", 1)[0].rstrip().endswith("?"):
        return "health"
    return "prose" if is_novel(document) else "work"


def load_handbooks(config: NanoConfig) -> list[str]:
    """Return the sections of the sample company's handbooks: prose only, none of its questions."""
    pages = [*sorted(config.sample.glob("handbooks/*.md")), config.sample / "company.md"]
    return [part.strip() for page in pages for part in re.split(r"\n(?=## )", page.read_text("utf-8"))]
