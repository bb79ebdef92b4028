"""What an expert is, as the README.md of its folder in Hugging Face's model-card format.

Knows plain facts alone: it reads no file, loads no model, and never sees the data.
"""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import isfinite
from typing import Any

import yaml

NANO = "nano"
HUB_ID = re.compile(r"[A-Za-z0-9_][\w.-]*(/[\w.-]+)?", re.ASCII)
LIMITS = """## What it is not for

- Facts that must be right: it can be wrong and sound sure. Let a person check what something depends on.
- Decisions about people, such as their health, pay or work, unless a person makes them and answers for them.
- Questions of other departments or companies: it was neither trained nor measured on them.
- People who may not read its training data: a model can repeat what it was trained on, word for word."""


@dataclass(frozen=True)
class CardFacts:
    """What a card tells. `environment` is that of describe_environment; `scores` are metric → (base, expert).

    `end_ids` end an answer; without them it ends where the base's own generation config says.
    """

    department: str
    name: str
    company: str
    description: str
    base_model: str
    method: str
    objective: str
    is_adapter: bool
    parent: str | None
    settings: dict[str, Any]
    rows_trained: int
    rows_held_out: int
    seconds: float
    peak_bytes: int | None
    environment: dict[str, Any]
    data_digest: str
    digest: str
    scores: dict[str, tuple[float, float]] | None
    license: str | None = None
    end_ids: tuple[int, ...] = ()


def model_card(facts: CardFacts) -> str:
    """Return the text of the README.md."""
    # One line a value: no text of a user's can then look like the end of the front matter.
    front = yaml.safe_dump(_front_matter(facts), sort_keys=False, allow_unicode=True, width=float("inf"))
    title = f"# {_text(facts.name)}: the {_text(facts.department)} expert of {_text(facts.company)}"
    parts = (
        f"""## What it answers

Questions to the {_text(facts.department)} department of {_text(facts.company)}: {_text(facts.description)}""",
        _making(facts),
        _scores(facts),
        _loading(facts),
        LIMITS,
        _data(facts),
    )
    return f"---\n{front}---\n\n" + "\n\n".join((title, *parts)) + "\n"


def _front_matter(facts: CardFacts) -> dict[str, Any]:
    front: dict[str, Any] = {"library_name": "peft" if facts.is_adapter else "transformers"}
    if _is_hub_id(facts.base_model):
        front["base_model"] = facts.base_model
        front["base_model_relation"] = "adapter" if facts.is_adapter else "finetune"
    front["pipeline_tag"] = "text-generation"
    front["tags"] = list(dict.fromkeys(["quintet", facts.method, facts.objective, facts.department]))
    if facts.license is not None:
        front["license"] = facts.license
    metrics = [
        {"type": metric, "name": _metric_name(metric), "value": float(expert)}
        for metric, (_, expert) in (facts.scores or {}).items()
        if isfinite(expert)
    ]
    if metrics:
        questions = {"type": "held-out", "name": _line(f"{facts.company}: held-out questions of {facts.department}")}
        result = {"task": {"type": "text-generation"}, "dataset": questions, "metrics": metrics}
        front["model-index"] = [{"name": facts.name, "results": [result]}]
    return front


def _making(facts: CardFacts) -> str:
    made = {
        "Method": facts.method,
        "Objective": facts.objective,
        "Base model": _shown_base(facts.base_model),
        "Started from": facts.parent,
        "Rows trained on": f"{facts.rows_trained:,}",
        "Rows held out": f"{facts.rows_held_out:,}",
        "Time": _duration(facts.seconds),
        "Peak memory": None if facts.peak_bytes is None else f"{facts.peak_bytes / 1e9:.2f} GB",
        "Machine": _machine(facts.environment),
        "Versions": ", ".join(f"{name} {number}" for name, number in facts.environment.get("versions", {}).items()),
    }
    return "\n\n".join(
        (
            "## How it was made",
            _table(("", ""), ((key, value) for key, value in made.items() if value)),
            "### Settings",
            _table(("Setting", "Value"), _flat(facts.settings)),
        )
    )


def _scores(facts: CardFacts) -> str:
    if not facts.scores:
        said = f"It was not evaluated yet. To compare it with its base: `quintet evaluate {_code(facts.name)}`"
        return f"## What it scored\n\n{said}"
    rows = ((_metric_name(m), f"{base:.3f}", f"{expert:.3f}") for m, (base, expert) in facts.scores.items())
    held_out = f"On {facts.rows_held_out:,} held-out questions, which its training did not see:"
    return f"## What it scored\n\n{held_out}\n\n{_table(('Metric', 'Base', 'Expert'), rows)}"


def _loading(facts: CardFacts) -> str:
    imports = ["from transformers import AutoModelForCausalLM, AutoTokenizer"]
    load = 'model = AutoModelForCausalLM.from_pretrained(".")'
    if facts.is_adapter:
        imports.insert(0, "from peft import PeftModel")
        if facts.base_model == NANO:
            imports.insert(0, "from importlib.resources import files\n")
        load = f'base = {_base_in_code(facts.base_model)}\nmodel = PeftModel.from_pretrained(base, ".")'
    code = "\n".join(imports)
    ends = f", eos_token_id={list(facts.end_ids)}" if facts.end_ids else ""
    return f"""## How to load it

In this folder, with {"peft and transformers" if facts.is_adapter else "transformers"} alone:

```python
{code}

{load}
tokenizer = AutoTokenizer.from_pretrained(".")
messages = [{{"role": "user", "content": "Your question"}}]
inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
output = model.generate(**inputs, max_new_tokens=128, do_sample=False{ends})
print(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
```"""


def _base_in_code(base_model: str) -> str:
    if base_model == NANO:
        source = 'str(files("quintet") / "nano" / "weights")'
    else:
        source = json.dumps(base_model if _is_hub_id(base_model) else f"path/to/{_shown_base(base_model)}")
    return f"AutoModelForCausalLM.from_pretrained({source})"


def _data(facts: CardFacts) -> str:
    digests = (("Data", facts.data_digest), ("Weights", facts.digest))
    return f"""## Digests

SHA-256, to tell whether two experts come from the same data or are the same. The data itself is not told here.

{_table(("Of", "Digest"), digests)}"""


def _is_hub_id(base_model: str) -> bool:
    return HUB_ID.fullmatch(base_model) is not None


def _shown_base(base_model: str) -> str:
    """Return a hub id as it is, and of a folder its name alone: where it lies is nobody else's business."""
    return base_model if _is_hub_id(base_model) else re.split(r"[/\\]", base_model.rstrip("/\\"))[-1]


def _metric_name(metric: str) -> str:
    return "F1" if metric == "f1" else _line(metric.replace("_", " ").capitalize())


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _machine(environment: dict[str, Any]) -> str | None:
    gpus = Counter(gpu["name"] for gpu in environment.get("gpus", ()))
    if gpus:
        return ", ".join(name if count == 1 else f"{count} x {name}" for name, count in gpus.items())
    cpu = environment.get("cpu", {})
    return f"{cpu['model']}, {cpu['cores']} cores" if cpu.get("model") else None


def _flat(settings: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", _value(value)


def _value(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_value, value))
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None else str(value)


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *(tuple(map(_text, row)) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _line(text: str) -> str:
    """Return the text on one line, without control characters and halves of surrogate pairs."""
    line = " ".join(text.split())
    return "".join(letter for letter in line if unicodedata.category(letter) not in {"Cc", "Cs"})


def _text(text: str) -> str:
    """Return Markdown that shows the text as it is, anywhere but at the start of a line."""
    return re.sub(r"([\\`*_\[\]<>|~&#$])", r"\\\1", _line(text))


def _code(text: str) -> str:
    return _line(text).replace("`", "'")
