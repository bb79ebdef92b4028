#!/bin/sh
# The steps of the images' installation, which the tests take as well.
#
#   install.sh packages VENV TORCH_VERSION [TORCH_INDEX]   all that Quintet needs, as requirements.txt beside this pins it
#   install.sh quintet VENV WHEEL ROOT                     Quintet itself, in ROOT/VENV: a small layer to lay over VENV
#
# The environment has no pip: nothing is installed where it runs.
set -eu

venv=$2

install() {
  python3 -m pip --python "$venv/bin/python" install --only-binary :all: --no-compile --no-warn-script-location "$@"
}

# A quarter of a gigabyte that no server reads: tests, headers, what PyTorch's own tests run, names for debuggers, and for
# a CPU the kernels for GPUs.
slim() {
  cd "$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("platlib"))')"
  find . -depth -type d \( -name tests -o -name __pycache__ \) -exec rm -rf {} +
  rm -rf torch/include torch/test pyarrow/include pyarrow/libarrow_flight.*
  find torch/bin -type f ! -name torch_shm_manager -delete
  strip --strip-unneeded torch/lib/libtorch_cpu.so
  if "$venv/bin/python" -B -c 'import sys, torch; sys.exit(torch.version.cuda is not None)'; then
    find bitsandbytes -name 'libbitsandbytes_*' ! -name '*_cpu*' -delete
  fi
}

# Bytecode of all modules would be 300 MB; that of what a server loads is 120, and it starts as fast.
compile() {
  PYTHONDONTWRITEBYTECODE='' "$venv/bin/python" -c 'import alembic.command, fastapi, httpx, peft, psycopg, redis, sqlalchemy.orm, typer, uvicorn
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM'
}

case $1 in
  packages)
    python3 -m venv --without-pip "$venv"
    # With what it brings along: for CUDA, NVIDIA's libraries.
    install ${4:+--index-url "$4"} "torch==$3"
    install --no-deps --require-hashes --requirement "$(dirname "$0")/requirements.txt"
    slim
    compile
    ;;
  quintet)
    python3 -m pip --python "$venv/bin/python" install --no-deps --no-index --ignore-installed --no-warn-script-location \
      --root "$4" "$3"
    ;;
  *)
    echo "install.sh: expected packages or quintet, found $1" >&2
    exit 2
    ;;
esac
