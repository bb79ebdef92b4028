"""`python -m quintet.cli` is the `quintet` command."""

from quintet.cli import main

main()
