"""`python -m apc_cli.cli` is `apc`."""

from apc_cli.cli import main

main()
