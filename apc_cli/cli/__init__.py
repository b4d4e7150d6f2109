"""The command line. Each command imports what it runs, so that `apc --help` loads nothing heavy."""

from apc_cli.cli.main import app, main

__all__ = ["app", "main"]
