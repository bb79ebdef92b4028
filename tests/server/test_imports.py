"""The server's modules load no compute library."""

import subprocess
import sys


def test_the_import_of_the_server_loads_no_compute_library() -> None:
    program = (
        "import sys; from quintet.server.app import create_app; "
        "print([m for m in ('torch', 'transformers', 'peft', 'tokenizers', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
