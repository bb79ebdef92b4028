"""A thousand long items over a large vocabulary are measured within a gigabyte above the model."""

import json
import subprocess
import sys

import pytest

MEASURE = """
import json, random, torch
from transformers import LlamaConfig, LlamaForCausalLM
from quintet.chat import IGNORED, Encoded
from quintet.evaluation.answering import answer_all
from quintet.evaluation.likelihood import answer_losses
from quintet.training.memory import peak_bytes, reset_peak

torch.manual_seed(0)
model = LlamaForCausalLM(LlamaConfig(vocab_size=32_000, hidden_size=128, intermediate_size=256, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=1024)).eval()
draw = random.Random(0)
prompts = [[draw.randrange(3, 32_000) for _ in range(384)] for _ in range(1000)]
answers = [[draw.randrange(3, 32_000) for _ in range(128)] for _ in range(1000)]
rows = [Encoded(p + a, [IGNORED] * len(p) + a) for p, a in zip(prompts, answers)]
model(torch.tensor([prompts[0]]))
reset_peak("cpu")
before = peak_bytes("cpu")
found = answer_losses(model, rows)
likelihood = peak_bytes("cpu") - before
reset_peak("cpu")
said = answer_all(model, prompts, [2], 8, 32, lambda _: None)
print(json.dumps({"rows": len(found.nats), "said": len(said), "likelihood": likelihood,
    "answering": peak_bytes("cpu") - before}))
"""


@pytest.mark.slow
def test_a_thousand_items_of_512_tokens_and_32_000_words_take_less_than_a_gigabyte() -> None:
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["rows"] == found["said"] == 1000
    assert found["likelihood"] < 1e9, found
    assert found["answering"] < 1e9, found
    print(found)
