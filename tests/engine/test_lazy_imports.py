import subprocess
import sys
from pathlib import Path

from quintet.cli.scaffold import create_project


def run(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.strip().splitlines()[-1]


def test_a_question_is_answered_without_libraries_that_have_no_part_in_it(tmp_path: Path) -> None:
    create_project(tmp_path / "sample")
    asked = ["quintet", "ask", "Who are you?", "-d", "base", "--max-tokens", "1", "--project", str(tmp_path / "sample")]
    program = f"""
import runpy, sys
sys.argv = {asked}
try:
    runpy.run_module("quintet.cli", run_name="__main__")
except SystemExit as end:
    print(end.code)
print([name for name in ("sklearn", "scipy", "bitsandbytes", "torch._inductor.compile_fx") if name in sys.modules])
"""
    assert run(program) == "[]"


def test_what_was_left_out_can_be_imported_later() -> None:
    program = """
from quintet.engine.lazy_imports import import_to_serve
import_to_serve()
from peft.import_utils import is_bnb_4bit_available
from transformers.utils import is_bitsandbytes_available
import scipy, sklearn.metrics
print(is_bnb_4bit_available(), is_bitsandbytes_available())
"""
    assert run(program) == "True True"


def test_what_is_imported_already_stays() -> None:
    program = """
import sys, sklearn, bitsandbytes
from quintet.engine.lazy_imports import import_to_serve
import_to_serve()
print(sys.modules["sklearn"] is sklearn, sys.modules["bitsandbytes"] is bitsandbytes)
"""
    assert run(program) == "True True"
