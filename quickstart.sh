#!/bin/sh
# Installs Quintet beside this file and runs the quickstart: double-click it, or ./quickstart.sh
# TORCH_INDEX names another index for PyTorch, such as that of its CPU builds.
set -eu
cd "$(dirname "$0")"

python_of_the_system() {
  for name in python3 python3.13 python3.12 python3.11 python; do
    if command -v "$name" >/dev/null && "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$name"
      return
    fi
  done
  echo "Quintet needs Python 3.11 or newer: https://www.python.org/downloads/" >&2
  return 1
}

if ! [ -x .venv/bin/quintet ]; then
  python=$(python_of_the_system)
  echo "Installing Quintet in .venv (PyTorch alone is several GB with CUDA; silent until it is done)"
  "$python" -m venv .venv || { echo "On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
  if [ -n "${TORCH_INDEX:-}" ]; then
    .venv/bin/python -m pip install --disable-pip-version-check --quiet --index-url "$TORCH_INDEX" 'torch>=2.9,<2.14'
  fi
  .venv/bin/python -m pip install --disable-pip-version-check --quiet --editable .
fi
exec .venv/bin/quintet quickstart "${1:-wrenfield}"
