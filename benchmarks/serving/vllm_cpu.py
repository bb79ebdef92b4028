"""vLLM on a CPU, as a contestant: its own continuous batching over LoRA requests, prefix cache off."""

import os

from benchmarks.serving.contestant import Answer, Load, Setup, Took, compete, timed

CACHE_GB = "2"


def start(setup: Setup) -> Answer:
    """Start its engine, compiled where it can, with room for all experts."""
    os.environ |= {"VLLM_CPU_KVCACHE_SPACE": CACHE_GB, "VLLM_LOGGING_LEVEL": "WARNING",
                   "VLLM_CPU_OMP_THREADS_BIND": f"0-{setup.threads - 1}"}  # fmt: skip
    from vllm import LLM, SamplingParams
    from vllm.lora.request import LoRARequest

    llm = LLM(setup.base, dtype=setup.dtype, max_model_len=1024, enable_prefix_caching=False, enable_lora=True,
              max_loras=max(1, len(setup.experts)), max_lora_rank=16)  # fmt: skip
    experts = [LoRARequest(str(n), n + 1, folder) for n, folder in enumerate(setup.experts)]

    def answer(load: Load) -> Took:
        sampling = SamplingParams(temperature=0, max_tokens=load.tokens, min_tokens=load.tokens, ignore_eos=True)
        prompts = [{"prompt_token_ids": ids} for ids in load.prompts]
        adapters = [experts[number] if number >= 0 else None for number in load.experts]

        def generate() -> int:
            outputs = llm.generate(prompts, sampling, use_tqdm=False, lora_request=adapters)
            return sum(len(output.outputs[0].token_ids) for output in outputs)

        return timed(generate)

    return answer


if __name__ == "__main__":
    compete(start)
