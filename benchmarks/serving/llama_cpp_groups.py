"""llama.cpp, as a contestant: it decodes one adapter at a time, so requests of one expert share a batch, in turn."""

import ctypes
import sys
from collections.abc import Sequence

import llama_cpp as ll

from benchmarks.serving.contestant import Answer, Load, Setup, Took, compete, timed

CONTEXT = 16_384
BATCH = 2048


def start(setup: Setup) -> Answer:
    """Load the base and the adapters."""
    ll.llama_backend_init()
    ll.llama_log_set(_QUIET, ctypes.c_void_p(0))
    path = _quantised(setup.gguf) if "q8" in sys.argv else setup.gguf
    model = ll.llama_model_load_from_file(path.encode(), ll.llama_model_default_params())
    params = ll.llama_context_default_params()
    params.n_ctx, params.n_batch, params.n_ubatch, params.n_seq_max = CONTEXT, BATCH, 512, 32
    params.n_threads = params.n_threads_batch = setup.threads
    params.kv_unified = True
    context = ll.llama_init_from_model(model, params)
    adapters = [ll.llama_adapter_lora_init(model, path.encode()) for path in setup.gguf_experts]
    words = ll.llama_vocab_n_tokens(ll.llama_model_get_vocab(model))

    def answer(load: Load) -> Took:
        def generate() -> int:
            return sum(
                _generate(context, words, adapters[expert] if expert >= 0 else None, of_one, load.tokens)
                for expert in sorted(set(load.experts))
                for of_one in [[p for p, e in zip(load.prompts, load.experts, strict=True) if e == expert]]
            )

        return timed(generate)

    return answer


@ll.llama_log_callback  # type: ignore[untyped-decorator]
def _quiet(level: int, text: bytes, data: object) -> None:
    pass


_QUIET = _quiet


def _quantised(gguf: str) -> str:
    """Write the base in 8 bits beside the other, and return where."""
    params = ll.llama_model_quantize_default_params()
    params.ftype = ll.LLAMA_FTYPE_MOSTLY_Q8_0
    if code := ll.llama_model_quantize(gguf.encode(), f"{gguf}.q8".encode(), ctypes.byref(params)):
        raise RuntimeError(f"llama_model_quantize returned {code}")
    return f"{gguf}.q8"


def _generate(context: object, words: int, adapter: object, prompts: Sequence[Sequence[int]], tokens: int) -> int:
    """Answer prompts of one expert, all in one batch; return how many tokens were generated."""
    ll.llama_memory_clear(ll.llama_get_memory(context), True)
    _set_adapter(context, adapter)
    batch = ll.llama_batch_init(BATCH, 0, 1)
    last = [_feed(context, words, batch, number, ids) for number, ids in enumerate(prompts)]
    for step in range(1, tokens):
        batch.n_tokens = len(prompts)
        for number, ids in enumerate(prompts):
            _put(batch, number, last[number], len(ids) + step - 1, number, wants_logits=True)
        _decode(context, batch)
        last = [_likeliest(context, words, number) for number in range(len(prompts))]
    ll.llama_batch_free(batch)
    return tokens * len(prompts)


def _set_adapter(context: object, adapter: object) -> None:
    count = 0 if adapter is None else 1
    adapters = (ll.llama_adapter_lora_p_ctypes * 1)(adapter)
    ll.llama_set_adapters_lora(context, adapters, count, (ctypes.c_float * 1)(1.0))


def _feed(context: object, words: int, batch: object, number: int, ids: Sequence[int]) -> int:
    """Compute a prompt and return its next token."""
    batch.n_tokens = len(ids)  # type: ignore[attr-defined]
    for place, id_ in enumerate(ids):
        _put(batch, place, id_, place, number, wants_logits=place == len(ids) - 1)
    _decode(context, batch)
    return _likeliest(context, words, len(ids) - 1)


def _put(batch: object, row: int, id_: int, place: int, number: int, *, wants_logits: bool) -> None:
    batch.token[row], batch.pos[row], batch.n_seq_id[row] = id_, place, 1  # type: ignore[attr-defined]
    batch.seq_id[row][0], batch.logits[row] = number, wants_logits  # type: ignore[attr-defined]


def _decode(context: object, batch: object) -> None:
    if code := ll.llama_decode(context, batch):
        raise RuntimeError(f"llama_decode returned {code}")


def _likeliest(context: object, words: int, row: int) -> int:
    import numpy as np

    logits = ll.llama_get_logits_ith(context, row)
    return int(np.ctypeslib.as_array(logits, shape=(words,)).argmax())


if __name__ == "__main__":
    compete(start)
