"""Tokenizer cache: the translators of experts and of the base, by the digest of their tokenizers.

Experts of one base mostly have the same tokenizer, however many they are: what has the same files is loaded once.
"""

import asyncio
from pathlib import Path

from cachetools import LRUCache

from quintet.chat import ChatTranslator
from quintet.files import digest_files
from quintet.models.adapter_files import ADAPTER_CONFIG
from quintet.models.base_model import load_tokenizer
from quintet.registry.artifacts import EXPERT_FILE

MOST = 16
"""Different translators that are kept; some megabytes each."""
OF_THE_EXPERT_ALONE = frozenset({ADAPTER_CONFIG, EXPERT_FILE})

Source = tuple[str, str]
"""A digest, and a folder or hub id of that digest."""


class TokenizerCache:
    """Loads each translator when it is first wanted; the least recently used leave when there are too many."""

    def __init__(self) -> None:
        self._contents: dict[Source, str] = {}
        self._translators: LRUCache[str, ChatTranslator] = LRUCache(MOST)
        self._loading = asyncio.Lock()

    async def of(self, source: Source) -> ChatTranslator:
        """Return a source's translator; raise ModelError when its tokenizer cannot be used."""
        if (found := self._find(source)) is None:
            async with self._loading:
                found = self._find(source) or await self._load(source)
        return found

    def _find(self, source: Source) -> ChatTranslator | None:
        found: ChatTranslator | None = self._translators.get(self._contents.get(source, ""))
        return found

    async def _load(self, source: Source) -> ChatTranslator:
        content = self._contents[source] = await asyncio.to_thread(_digest, source[1])
        if content not in self._translators:
            self._translators[content] = await asyncio.to_thread(_load_translator, source[1])
        found: ChatTranslator = self._translators[content]
        return found


def _digest(folder: str) -> str:
    """Return what identifies a tokenizer: all files that are neither weights nor of one expert alone."""
    files = [file for file in Path(folder).glob("*") if file.is_file() and file.suffix not in (".safetensors", ".md")]
    shared = sorted(file for file in files if file.name not in OF_THE_EXPERT_ALONE)
    return digest_files(*shared) if shared else folder


def _load_translator(source: str) -> ChatTranslator:
    return ChatTranslator(load_tokenizer(source))
