"""Many experts, few tokenizers."""

import asyncio
import shutil
from pathlib import Path

import pytest

from quintet.errors import ModelError
from quintet.serving import tokenizers
from quintet.serving.tokenizers import TokenizerCache


def folder_of(root: Path, name: str, base: Path, template: str | None = None) -> tuple[str, str]:
    """Write what an expert's folder has of a tokenizer, beside files that are its own."""
    folder = root / name
    folder.mkdir()
    for file in base.glob("*token*"):
        shutil.copy(file, folder)
    for own in ("expert.json", "adapter_config.json", "adapter_model.safetensors", "README.md"):
        (folder / own).write_text(name)
    (folder / "chat_template.jinja").write_text(template or "{{- messages[-1]['content'] -}}")
    return name, str(folder)


def test_experts_with_the_same_tokenizer_share_one(tmp_path: Path, tiny_base: Path) -> None:
    async def load() -> None:
        kept = TokenizerCache()
        sources = [folder_of(tmp_path, str(number), tiny_base) for number in range(20)]
        found = await asyncio.gather(*(kept.of(source) for source in sources))
        assert all(each is found[0] for each in found)
        other = await kept.of(folder_of(tmp_path, "other", tiny_base, "{{- messages[0]['content'] -}}"))
        assert other.tokenizer.chat_template != found[0].tokenizer.chat_template

    asyncio.run(load())


def test_only_so_many_are_kept_and_one_that_left_comes_back(
    tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def load() -> None:
        kept = TokenizerCache()
        a, b, c = (folder_of(tmp_path, name, tiny_base, f"{{{{- {name!r} -}}}}") for name in "abc")
        first = await kept.of(a)
        await kept.of(b)
        assert await kept.of(a) is first
        await kept.of(c)
        assert await kept.of(a) is first
        assert len(kept._translators) == 2
        assert (await kept.of(b)).tokenizer.chat_template == "{{- 'b' -}}"

    monkeypatch.setattr(tokenizers, "MOST", 2)
    asyncio.run(load())


def test_one_that_is_loaded_outlives_its_files(tmp_path: Path, tiny_base: Path) -> None:
    async def load() -> None:
        kept, source = TokenizerCache(), folder_of(tmp_path, "a", tiny_base)
        first = await kept.of(source)
        shutil.rmtree(source[1])
        assert await kept.of(source) is first
        with pytest.raises(ModelError, match="cannot be loaded"):
            await kept.of(("b", source[1]))

    asyncio.run(load())
