"""Computes steps with transformers' own model code: one base, experts of every kind, one row of tokens for all.

Knows nothing of requests, queues or who may have which block.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from quintet.engine.adapters.loader import is_full, load_paged, load_to_round, read_expert
from quintet.engine.adapters.memory_budget import (
    affordable_bytes,
    held_bytes,
    model_bytes,
    stored_bytes,
    tensors_of,
)
from quintet.engine.adapters.types import Base, LoadedAdapter
from quintet.engine.interface import Adapter, DeviceInfo
from quintet.engine.kernels.prepacked_linear import finding_fusable, pack, packing_of, release_mmap
from quintet.engine.lora.multi_lora import MultiLoRA
from quintet.engine.memory import rounded
from quintet.engine.runner.cuda_graphs import Capture, CUDAGraphs, capture_on_gpu
from quintet.engine.runner.paged_attention import PagedStep, PagedStore, ShapeProbe, Span, stepping
from quintet.engine.types import TAKE_ANOTHER_BASE, Chunk, LayerShape, Prepared
from quintet.errors import ModelError
from quintet.machine import memory_limit
from quintet.models.base_model import default_dtype, pick_device
from quintet.models.peft_model import shared_view, skeleton_of

GIB = 2**30
CPU_SHARE, CPU_LIMIT = 0.25, 4 * GIB
GPU_SHARE = 0.6
MOST_SEQUENCES = 256
BARE_BASE = LoadedAdapter()


class ModelRunner:
    """Serves one base and experts of every kind from one paged store of keys and values.

    One thread computes; another one may `measure` and `prepare` meanwhile.

    `blocks` is by default as many as a budget of memory holds, after the base is loaded: on a GPU 60 in 100 of what is
    free (experts and a step's own numbers need the rest), on a CPU a quarter of the machine's or the container's and at
    most 4 GiB; never more than 256 sequences of full length need, never fewer than one needs. `expert_memory` is half
    of what then is left. Answers are those of PEFT's or transformers' own greedy generation, exactly in float32; in
    lower precision up to its rounding.
    Where there is a `capture`, as by default there is on a GPU, steps of single tokens on the shared base are recorded
    and launched as a whole.
    With `int8` the linear layers' weights are rounded to 8 bits, fully trained experts' too; adapters' own are not.
    """

    def __init__(
        self,
        source: str,
        device: str | None = None,
        dtype: torch.dtype | None = None,
        blocks: int | None = None,
        block_size: int = 16,
        *,
        int8: bool = False,
        capture: Capture | None = None,
    ) -> None:
        self._device = device or pick_device()
        self._source = source
        self._dtype = dtype or default_dtype(self._device)
        self._load = partial(load_to_round if int8 else load_paged, device=self._device, dtype=self._dtype)
        self._model: Any = self._load(source)
        with finding_fusable(self._model) as self._fused:
            probe = _probe(self._model)
        self._packing = packing_of(self._dtype, self._device, int8=int8)
        # Before any layer is packed or mixed: adapters that PEFT computes are built on views of the plain ones.
        self._plain: Any = None if self._packing else shared_view(self._model)
        skeleton = skeleton_of(self._model, self._dtype)
        self._pack(self._model, torch.get_num_threads())
        # Beyond its original length, LongRoPE (Ding et al. 2024, arXiv:2402.13753) turns all keys of a batch by
        # other angles, so one long sequence would change the others: sequences end there.
        text: Any = self._model.config.get_text_config()
        rope: Any = getattr(text, "rope_parameters", None) or {}
        kinds = [rope, *(kind for kind in rope.values() if isinstance(kind, dict))]
        originals = [kind["original_max_position_embeddings"] for kind in kinds if kind.get("rope_type") == "longrope"]
        self.context_length = int(min([text.max_position_embeddings, *originals]))
        self.block_size = block_size
        self.blocks = blocks or self._affordable(probe.shapes)
        # One block more, which no sequence has: of tokens that only fill a recorded step.
        self._store = PagedStore(probe.shapes, self.blocks + 1, block_size, self._device, self._dtype)
        self.expert_memory = affordable_bytes(self._device, model_bytes(self._model) + self._store.bytes)
        self._base = Base(skeleton, probe.shapes, self._device, self._template, self._load)
        capture = capture or (capture_on_gpu() if self._device.startswith("cuda") else None)
        self._graphs = CUDAGraphs(capture) if capture else None
        self._windows = list(dict.fromkeys(probe.windows.values()))
        self._mixer = MultiLoRA(self._model, self._model.get_output_embeddings(), padded=bool(capture))
        self._experts: dict[str, LoadedAdapter] = {}

    @property
    def device_info(self) -> DeviceInfo:
        """Where it computes."""
        gpu = torch.cuda.get_device_name(self._device) if self._device.startswith("cuda") else None
        precision = "int8" if self._packing == "int8" else str(self._dtype).removeprefix("torch.")
        return DeviceInfo(self._device, gpu, precision)

    @property
    def vocabulary(self) -> int:
        """How many logits a token has."""
        return int(self._model.get_output_embeddings().out_features)

    def measure(self, adapter: Adapter) -> int:
        """Return about how many bytes an expert takes: those of its stored weights in the base's precision."""
        return stored_bytes(adapter.folder, self._dtype.itemsize)

    def prepare(self, adapter: Adapter) -> Prepared:
        """Read an expert, on whatever thread; raise ModelError when it cannot be used. Nothing that runs is touched."""
        folder = adapter.folder
        expert = read_expert(folder, self._base)
        if expert.num_virtual_tokens >= self.context_length:
            raise ModelError(
                f"the expert in {folder} has {expert.num_virtual_tokens} virtual tokens, and the base has room for "
                f"{self.context_length} in all; train it with fewer"
            )
        if expert.model is not None:
            found = (_probe(expert.model).shapes, expert.model.get_output_embeddings().out_features)
            if found != (self._store.shapes, self.vocabulary):
                raise ModelError(
                    f"the model in {folder} is of another shape than the base, with which it shares a store of keys "
                    "and values; serve it as a base of its own, or train it anew"
                )
            if is_full(folder):
                self._pack(expert.model)
        self._mixer.reserve(adapter.digest, expert.parts)
        shared = () if expert.model is None or is_full(adapter.folder) else tensors_of(self._template())
        return Prepared(expert.num_virtual_tokens, held_bytes(expert, shared), expert)

    def install(self, digest: str, prepared: Prepared) -> None:
        """Let chunks of a prepared expert come."""
        expert: LoadedAdapter = prepared.content
        if expert.parts:
            self._mixer.add(digest, expert.parts)
        self._experts[digest] = expert

    def load(self, adapter: Adapter) -> int:
        """Prepare and install an expert at once, if it is not yet; return how many virtual tokens it has."""
        if adapter.digest not in self._experts:
            self.install(adapter.digest, self.prepare(adapter))
        return self._experts[adapter.digest].num_virtual_tokens

    def unload(self, digest: str) -> LoadedAdapter | None:
        """Forget an expert, a chunk of which is an error from now on; return it, if it was installed."""
        self._mixer.remove(digest)
        return self._experts.pop(digest, None)

    @torch.inference_mode()
    def step(self, chunks: Sequence[Chunk]) -> Tensor:
        """Compute all chunks as one batch; return float32 logits `[chunks that want them, vocabulary]`, in order.

        Raises ModelError for a chunk of an expert that is not loaded, ValueError for one that cannot be; then nothing
        is computed.
        """
        for chunk in chunks:
            expert = self._expert(chunk)
            if chunk.num_virtual_tokens != expert.num_virtual_tokens:
                raise ValueError(
                    f"a chunk has {chunk.num_virtual_tokens} virtual tokens, its expert {expert.num_virtual_tokens}"
                )
            places = chunk.num_virtual_tokens + chunk.start + len(chunk.ids)
            if not chunk.ids or places > min(len(chunk.blocks) * self.block_size, self.context_length):
                raise ValueError(f"a chunk must have ids and blocks for its {places} places, "
                                 f"and may not go beyond {self.context_length}")  # fmt: skip
            if not all(0 <= block < self.blocks for block in chunk.blocks):
                raise ValueError(f"a chunk has blocks {chunk.blocks}; there are those from 0 to {self.blocks - 1}")
        wanted = [number for number, chunk in enumerate(chunks) if chunk.wants_logits]
        logits_NV = torch.empty(len(wanted), self.vocabulary, device=self._device, dtype=torch.float32)
        for group in self._groups(chunks):
            rows = [row for row, number in enumerate(wanted) if number in group]
            logits = self._forward(list(group.values()))
            if rows:
                logits_NV[torch.tensor(rows, device=self._device)] = logits.float()
        return logits_NV

    def _pack(self, model: Any, threads: int = 1) -> None:
        if self._packing:
            pack(model, self._packing, self._fused, threads)
            release_mmap(model, self._dtype)

    def _template(self) -> Any:
        """Return the base with plain weights; where the running one's are packed, read when first wanted."""
        if self._plain is None:
            self._plain = load_paged(self._source, self._device, self._dtype)
        return self._plain

    def _expert(self, chunk: Chunk) -> LoadedAdapter:
        if chunk.expert is None:
            return BARE_BASE
        if chunk.expert not in self._experts:
            raise ModelError(f"the expert {chunk.expert} is not loaded; load it before its chunks come")
        return self._experts[chunk.expert]

    def _groups(self, chunks: Sequence[Chunk]) -> list[dict[int, Chunk]]:
        """Return what is computed together, by number: all that shares the base, and what each own model computes."""
        groups: dict[str | None, dict[int, Chunk]] = {}
        for number, chunk in enumerate(chunks):
            own = self._expert(chunk).model is not None
            groups.setdefault(chunk.expert if own else None, {})[number] = chunk
        return list(groups.values())

    def _forward(self, group: Sequence[Chunk]) -> Tensor:
        """Compute chunks that one model computes; return logits `[chunks that want them, vocabulary]`."""
        expert = self._expert(group[0])
        model = self._model if expert.model is None else expert.model
        if (
            self._graphs
            and expert.model is None
            and all(len(chunk.ids) == 1 and chunk.start > 0 and chunk.wants_logits for chunk in group)
        ):
            return self._go_on(group, self._graphs)
        row = _Row()
        for chunk in group:
            states = self._expert(chunk).states
            if states is not None and not chunk.start:
                slots_V = torch.tensor(
                    self._store.slots(chunk.blocks, 0, chunk.num_virtual_tokens), device=self._device
                )
                for layer, (keys_VKD, values_VKD) in states.items():
                    self._store.write(layer, slots_V, keys_VKD, values_VKD)
            row.append(chunk, self._expert(chunk).embeddings)
        step = PagedStep(self._store, row.spans, self._device, self._dtype)
        with stepping(step), self._mixer.active(self._mixer.prepare_batch(row.owners, row.kept, self._device)):
            out = model(
                **self._inputs(model, row),
                position_ids=torch.tensor([row.positions], device=self._device),
                use_cache=False,
                logits_to_keep=torch.tensor(row.kept, dtype=torch.long, device=self._device),
            )
        return out.logits[0]  # type: ignore[no-any-return]

    def _go_on(self, group: Sequence[Chunk], graphs: CUDAGraphs) -> Tensor:
        """Compute single tokens on the shared base; return logits `[chunks, vocabulary]` that the next call changes."""
        row = _Row()
        for chunk in group:
            row.append(chunk, None)
        # Tokens of nobody, whose keys and values lie behind all blocks.
        for _ in range(rounded(len(group), 1) - len(group)):
            row.append(Chunk(None, (0,), 0, 0, (self.blocks,), True), None)
        step = PagedStep(self._store, row.spans, self._device, self._dtype).ahead(self._windows)
        batch = self._mixer.prepare_batch(row.owners, row.kept, self._device)
        places = torch.tensor([row.ids, row.positions], device=self._device)
        inputs = [places, *step.tensors, *(batch.tensors if batch else ())]

        def compute(given: Sequence[Tensor]) -> Tensor:
            ids_1N, positions_1N = given[0][:1], given[0][1:]
            rest = iter(given[1:])
            with stepping(step.of(rest)), self._mixer.active(batch.of(rest) if batch else None):
                out = self._model(input_ids=ids_1N, position_ids=positions_1N, use_cache=False)
            return out.logits[0]  # type: ignore[no-any-return]

        graph_key = batch.graph_key if batch else None
        return graphs.run(self._mixer.rows, graph_key, inputs, compute)[: len(group)]

    def _inputs(self, model: Any, row: "_Row") -> dict[str, Tensor]:
        """Return the row's ids, or, where there are virtual tokens in it, its embeddings."""
        ids_1T = torch.tensor([row.ids], device=self._device)
        if not row.embedded:
            return {"input_ids": ids_1T}
        embeddings_1TE = model.get_input_embeddings()(ids_1T).clone()
        for first, embeddings_VE in row.embedded:
            embeddings_1TE[0, first : first + embeddings_VE.shape[0]] = embeddings_VE
        return {"inputs_embeds": embeddings_1TE}

    def _affordable(self, shapes: Mapping[int, LayerShape]) -> int:
        """Return how many blocks the budget holds."""
        device = torch.device(self._device)
        if device.type == "cuda":
            budget = GPU_SHARE * torch.cuda.mem_get_info(device)[0]
        else:
            budget = min(CPU_SHARE * memory_limit(), CPU_LIMIT)
        place = sum(shape.heads * (shape.key_size + shape.value_size) for shape in shapes.values())
        blocks = int(budget / (place * self._dtype.itemsize * self.block_size))
        full = -(-self.context_length // self.block_size)
        return max(full, min(blocks, MOST_SEQUENCES * full))


@dataclass
class _Row:
    """Chunks laid out one after the other; all lists but `kept`, `spans` and `embedded` have one item for a token."""

    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    owners: list[str | None] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    embedded: list[tuple[int, Tensor]] = field(default_factory=list)

    def append(self, chunk: Chunk, embeddings: Tensor | None) -> None:
        """Add a chunk, with its virtual tokens in front when they are embeddings and the sequence begins."""
        ids, start = chunk.ids, chunk.num_virtual_tokens + chunk.start
        if embeddings is not None and chunk.start == 0:
            self.embedded.append((len(self.ids), embeddings))
            # Any id does in their places: its embedding is not used.
            ids, start = (0,) * chunk.num_virtual_tokens + ids, 0
        self.spans.append(Span(len(self.ids), len(ids), start, chunk.blocks))
        self.ids += ids
        self.positions += range(start, start + len(ids))
        self.owners += [chunk.expert] * len(ids)
        if chunk.wants_logits:
            self.kept.append(len(self.ids) - 1)


def _probe(model: Any) -> ShapeProbe:
    """Return what each layer keeps of a token, and how far back it looks.

    Raises ModelError for a model that keeps or wants anything else.
    """
    config: Any = model.config.get_text_config()
    probe = ShapeProbe()
    token = torch.zeros(1, 1, dtype=torch.long, device=model.device)
    problem = "does not attend to keys and values of all its tokens in each layer"
    try:
        with torch.inference_mode(), stepping(probe):
            model(input_ids=token, position_ids=token, use_cache=False, logits_to_keep=1)
    except (AttributeError, TypeError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"{type(model).__name__} {problem} ({error}); {TAKE_ANOTHER_BASE}") from error
    if sorted(probe.shapes) != list(range(config.num_hidden_layers)) or _hides_places(config, probe):
        raise ModelError(f"{type(model).__name__} {problem}; {TAKE_ANOTHER_BASE}")
    return probe


def _hides_places(config: Any, probe: ShapeProbe) -> bool:
    """Whether layers leave out places by a mask alone, of which their attention is not told."""
    kinds = getattr(config, "layer_types", None) or ()
    untold = any(kind == "sliding_attention" and not probe.windows.get(layer) for layer, kind in enumerate(kinds))
    by_config = not kinds and getattr(config, "sliding_window", None) and not any(probe.windows.values())
    return untold or bool(by_config) or "chunked_attention" in kinds
