"""Hugging Face's `generate` with PEFT's mixed batches, as a contestant: one static batch of all requests."""

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from benchmarks.serving.contestant import Answer, Load, Setup, Took, compete, timed


def start(setup: Setup) -> Answer:
    """Load the base and all experts."""
    torch.set_num_threads(setup.threads)
    base = AutoModelForCausalLM.from_pretrained(setup.base, dtype=getattr(torch, setup.dtype))
    model = PeftModel.from_pretrained(base, setup.experts[0], adapter_name="0")
    for number, folder in enumerate(setup.experts[1:], start=1):
        model.load_adapter(folder, adapter_name=str(number))
    model.to(base.dtype)
    return lambda load: _answer(model.eval(), load)


@torch.inference_mode()
def _answer(model: PeftModel, load: Load) -> Took:
    longest = max(map(len, load.prompts))
    padded = torch.tensor([[0] * (longest - len(ids)) + ids for ids in load.prompts])
    mask = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in load.prompts])
    names = [str(expert) if expert >= 0 else "__base__" for expert in load.experts]
    # All of them the bare base: without the adapters' layers in the way, which is kinder.
    bare = all(expert < 0 for expert in load.experts)

    def generate() -> int:
        out = (model.get_base_model() if bare else model).generate(
            input_ids=padded, attention_mask=mask, max_new_tokens=load.tokens, min_new_tokens=load.tokens,
            do_sample=False, pad_token_id=0, **({} if bare else {"adapter_names": names}),
        )  # fmt: skip
        return int(out[:, longest:].numel())

    if not bare:
        return timed(generate)
    with model.disable_adapter():
        return timed(generate)


if __name__ == "__main__":
    compete(start)
