"""One export: an expert in, a folder for other tools out. It is there only when it was proven."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from quintet.chat import ChatTranslator
from quintet.config import Project
from quintet.errors import ExportError
from quintet.evaluation.compare import Progress
from quintet.export import llama_cpp
from quintet.export.adapter import check_adapter, is_on_hub, write_adapter
from quintet.export.card import export_card
from quintet.export.formats import Dtype, Format
from quintet.export.merged import check_mergeable, merge, weights_source, write_merged
from quintet.export.proof import Proof, prove
from quintet.export.staging import EXPORT_FILE, check_target, staged
from quintet.files import write_json
from quintet.models import base_model
from quintet.registry.experts import Expert


@dataclass(frozen=True)
class Export:
    """What was written, and how it compares with the expert as it is served; an adapter is the same bytes."""

    expert: str
    digest: str
    form: Format
    dtype: Dtype | None
    folder: Path
    proof: Proof | None

    @property
    def megabytes(self) -> float:
        """Size of the folder, in 10^6 bytes."""
        return sum(file.stat().st_size for file in self.folder.iterdir()) / 1e6


def export(
    project: Project,
    expert: Expert,
    form: Format = Format.MERGED,
    *,
    to: Path | None = None,
    dtype: Dtype | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Export:
    """Write the expert as a folder of the format, by default `exports/<name>-<format>` in the project.

    The dtype is by default what the weights are kept in, and float16 in GGUF. Raises ExportError when the folder is
    taken, the format does not fit the expert, or what was written is not what is served; then nothing is left.
    """
    target = (to or project.root / "exports" / f"{expert.name}-{form}").absolute()
    check_target(target, force=force)
    expert.check_files()
    if form is Format.ADAPTER:
        check_adapter(expert)
        if dtype is not None:
            raise ExportError("an adapter is copied as it is; --dtype goes with --format merged or gguf")
    else:
        check_mergeable(expert)
        source = base_model.locate(project.config.base_model, project.root)
        expert.check_base(base_model.base_digest(source), project.config.base_model)
        if form is Format.GGUF:
            llama_cpp.check_convertible(base_model.load_config(weights_source(project, expert)))
    try:
        with staged(target) as folder:
            rounded, proof = _WRITERS[form](project, expert, folder, dtype, progress)
            write_json(
                folder / EXPORT_FILE,
                {
                    "expert": expert.name,
                    "digest": expert.digest,
                    "format": form,
                    "dtype": rounded,
                    "proof": None if proof is None else asdict(proof),
                },
            )
    except SafetensorError as error:
        raise ExportError(f"{target} cannot be written: {error}") from error
    return Export(expert.name, expert.digest, form, rounded, target, proof)


def _write_merged(
    project: Project, expert: Expert, folder: Path, dtype: Dtype | None, progress: Progress | None
) -> tuple[Dtype, Proof]:
    rounded = getattr(torch, dtype) if dtype else base_model.own_dtype(weights_source(project, expert))
    write_merged(merge(project, expert), _translator(expert.folder), rounded, folder)

    def load(device: str, serving: torch.dtype) -> tuple[Any, ChatTranslator]:
        return base_model.load_model(str(folder), device, serving), _translator(folder)

    proof = prove(project, expert, rounded, load, progress)
    return _with_card(project, expert, folder, Format.MERGED, Dtype(str(rounded).removeprefix("torch.")), proof)


def _write_gguf(
    project: Project, expert: Expert, folder: Path, dtype: Dtype | None, progress: Progress | None
) -> tuple[Dtype, Proof]:
    chosen = dtype or Dtype.FLOAT16
    translator = _translator(expert.folder)
    file = folder / llama_cpp.file_name(expert, chosen)
    llama_cpp.write_gguf(merge(project, expert), translator, expert.name, chosen, file)

    def load(device: str, serving: torch.dtype) -> tuple[Any, ChatTranslator]:
        return llama_cpp.load_gguf(file, device, serving), translator

    proof = prove(project, expert, getattr(torch, chosen), load, progress)
    return _with_card(project, expert, folder, Format.GGUF, chosen, proof, file.name)


def _write_adapter(
    project: Project, expert: Expert, folder: Path, _: Dtype | None, __: Progress | None
) -> tuple[None, None]:
    write_adapter(project, expert, folder)
    return None, None


_WRITERS: dict[Format, Callable[..., tuple[Dtype | None, Proof | None]]] = {
    Format.MERGED: _write_merged,
    Format.GGUF: _write_gguf,
    Format.ADAPTER: _write_adapter,
}


def _with_card(
    project: Project, expert: Expert, folder: Path, form: Format, dtype: Dtype, proof: Proof, file: str = ""
) -> tuple[Dtype, Proof]:
    base = expert.base_model if is_on_hub(project, expert) else None
    (folder / "README.md").write_text(export_card(expert, form, dtype, proof, base, file), encoding="utf-8")
    return dtype, proof


def _translator(folder: Path) -> ChatTranslator:
    return ChatTranslator(base_model.load_tokenizer(str(folder)))
