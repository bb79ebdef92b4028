"""The teaching script stays short and plain, and does what Quintet itself does."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from examples.teaching import train_lora
from quintet.chat import ChatTranslator
from quintet.evaluation.metrics import token_f1
from quintet.messages import Message
from quintet.models.base_model import NANO_FOLDER

SCRIPT = Path(train_lora.__file__)
TOKENIZER = AutoTokenizer.from_pretrained(NANO_FOLDER)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """On so small a model two threads gain little, and on a busy machine they wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_it_is_short_and_defines_no_class() -> None:
    source = SCRIPT.read_text("utf-8")
    assert len(source.splitlines()) <= 200
    assert not [node.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef)]


def test_it_stands_on_torch_transformers_and_peft_alone() -> None:
    tree = ast.parse(SCRIPT.read_text("utf-8"))
    froms = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    plain = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert {name for name in froms | plain if name.startswith("quintet")} == {
        "quintet.models.base_model",
        "quintet.cli.scaffold",
    }
    assert not {name for name in froms | plain if name.split(".")[0] in {"trl", "accelerate", "datasets"}}


@pytest.mark.parametrize("file", ["hr.jsonl", "hr.eval.jsonl"])
def test_its_ids_and_labels_are_quintets_own(file: str) -> None:
    translator = ChatTranslator(TOKENIZER)
    rows = train_lora.read_rows(file, 50)
    assert len(rows) == 50
    for row in rows:
        ids, labels = train_lora.encode(TOKENIZER, row["question"], row["answer"])
        wanted = translator.encode_example([Message("user", row["question"]), Message("assistant", row["answer"])])
        assert (ids, labels) == (wanted.ids, wanted.labels)


def test_a_batch_is_filled_up_on_the_right_with_what_is_not_trained() -> None:
    ids_bt, labels_bt, mask_bt = train_lora.pad_batch([([5, 6, 7], [-100, 6, 7]), ([8], [8])], pad_id=3)
    assert ids_bt.tolist() == [[5, 6, 7], [8, 3, 3]]
    assert labels_bt.tolist() == [[-100, 6, 7], [8, -100, -100]]
    assert mask_bt.tolist() == [[1, 1, 1], [1, 0, 0]]


def test_its_loss_is_that_of_transformers() -> None:
    model = AutoModelForCausalLM.from_pretrained(NANO_FOLDER, dtype=torch.float32)
    ids_bt, labels_bt, mask_bt = _batch()
    with torch.no_grad():
        loss = train_lora.mean_loss(model, ids_bt, labels_bt, mask_bt).item()
        wanted = model(input_ids=ids_bt, attention_mask=mask_bt, labels=labels_bt).loss.item()
    assert loss == pytest.approx(wanted, rel=1e-4)


def test_the_rate_rises_in_a_line_and_falls_along_a_cosine() -> None:
    shares = [train_lora.rate_at(step, 421) / train_lora.LEARNING_RATE for step in (0, 10, 20, 21, 221, 421)]
    # 5% of 421 steps is 21: 1/21, 11/21 and 21/21; then the top, the middle and the end of half a cosine.
    assert shares == pytest.approx([1 / 21, 11 / 21, 1, 1, 0.5, 0])


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("The 26 days, of leave.", "26 days of annual leave"),
        ("no no no", "No."),
        ("An", "the"),
        ("", "26 days"),
        ("Ask HR.", "Phone finance."),
    ],
)
def test_its_f1_is_quintets_own(answer: str, reference: str) -> None:
    assert train_lora.token_f1(answer, reference) == pytest.approx(token_f1(answer, reference))


@pytest.mark.usefixtures("one_thread")
def test_a_short_run_learns_and_leaves_an_adapter_that_peft_loads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "adapter"
    train_lora.main(["--steps", "12", "--rows", "16", "--questions", "2", "--out", str(out)])
    printed = capsys.readouterr().out
    losses = [float(loss) for loss in re.findall(r"loss (\d+\.\d+)", printed)]
    assert len(losses) == 2
    assert losses[1] < 0.8 * losses[0]
    assert printed.count("question: ") == printed.count("base: ") == printed.count("adapter: ") == 2
    assert re.search(r"token F1 on 2 held-out questions: base \d\.\d\d, adapter \d\.\d\d", printed)
    base, adapted = _losses(out)
    assert adapted < 0.5 * base


def test_numbers_that_mean_nothing_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        train_lora.main(["--questions", "0", "--out", str(tmp_path)])
    assert "must each be 1 or more" in capsys.readouterr().err


def _batch() -> tuple[torch.Tensor, ...]:
    rows = [train_lora.encode(TOKENIZER, r["question"], r["answer"]) for r in train_lora.read_rows("hr.jsonl", 8)]
    return train_lora.pad_batch(rows, TOKENIZER.pad_token_id)


def _losses(adapter: Path) -> tuple[float, float]:
    """Return the loss of the base and of the loaded adapter on rows that it was trained on."""
    base = AutoModelForCausalLM.from_pretrained(NANO_FOLDER, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, adapter).eval()
    with torch.no_grad():
        adapted = train_lora.mean_loss(model, *_batch()).item()
        with model.disable_adapter():
            return train_lora.mean_loss(model, *_batch()).item(), adapted
