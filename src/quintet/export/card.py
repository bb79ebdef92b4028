"""The README.md of an export that is a model of its own: what it is, how it was proven, how to run it."""

from typing import Any

import yaml

from quintet.export.formats import Format
from quintet.export.proof import Proof
from quintet.registry.experts import Expert

RUN_MERGED = """With transformers alone, in this folder:

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained(".")
tokenizer = AutoTokenizer.from_pretrained(".")
messages = [{"role": "user", "content": "Your question"}]
inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
output = model.generate(**inputs, max_new_tokens=128, do_sample=False)
print(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
```"""
RUN_GGUF = """With llama.cpp, in this folder:

```
llama-server -m {file} --jinja --temp 0
```"""


def export_card(expert: Expert, form: Format, dtype: str, proof: Proof, base: str | None, file: str = "") -> str:
    """Return the text; `base` is the base's hub id where it has one, `file` the GGUF file's name."""
    front: dict[str, Any] = {"library_name": "transformers" if form is Format.MERGED else "gguf"}
    if base is not None:
        front |= {"base_model": base, "base_model_relation": "finetune"}
    front |= {"pipeline_tag": "text-generation", "tags": ["quintet", expert.method, expert.department]}
    what = "with its base merged in" if expert.is_adapter else "which has all weights of its own"
    run = RUN_MERGED if form is Format.MERGED else RUN_GGUF.format(file=file)
    return f"""---
{yaml.safe_dump(front, sort_keys=False)}---

# {expert.name}, for the {expert.department} department

The expert {expert.name}, trained by `{expert.method}`, {what}; weights in {dtype}. It can be wrong and sound
sure: let a person check what something depends on.

## How to run it

{run}

## How it was proven

After it was written it was loaded again and measured beside the expert as Quintet serves it, on {proof.questions}
held-out questions. {proof.same_answers:.0%} of the greedy answers were the same, token by token.

| | as served | as exported | may differ by |
|---|---|---|---|
| Token F1 | {proof.served.f1:.4f} | {proof.exported.f1:.4f} | {proof.bound.f1:g} |
| Perplexity of the references | {proof.served.perplexity:.4f} | {proof.exported.perplexity:.4f} \
| {proof.bound.perplexity:.0%} |

## Digest

SHA-256 of the expert's weights: `{expert.digest}`
"""
