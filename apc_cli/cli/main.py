"""The application: its commands, and errors as text with an exit code."""

import multiprocessing
import os
import sys
import warnings
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from apc_cli.cli import building, measuring, using
from apc_cli.cli.termination import (
    INTERRUPTED,
    TERMINATED,
    Termination,
    is_interrupt,
    leave_with,
)
from apc_cli.errors import ApcError


class _Commands(TyperGroup):
    """The commands, with the shell's exit codes for Ctrl-C and for a reader that went away."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise typer.Exit(_report_interrupt()) from None
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(141) from None


app = typer.Typer(
    name="apc",
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Make and measure faithful role-play characters.",
)
config_app = typer.Typer(no_args_is_help=True, help="Look at a character's configuration.")
config_app.command("show")(using.config_show)
app.add_typer(config_app, name="config")
for _stage in building.STAGES:
    app.command(_stage, help=building.STAGES[_stage])(building.stage_command(_stage))
for _command in (building.train, measuring.evaluate, measuring.score, measuring.check_judge):
    app.command()(_command)
for _command in (measuring.lint, using.chat, using.export):
    app.command()(_command)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"apc {version('apc-cli')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="print the version and exit"
        ),
    ] = False,
) -> None:
    """Make and measure faithful role-play characters."""


_QUIET_LIBRARIES = {
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "TQDM_DISABLE": "1",
    "PYTHONWARNINGS": "ignore",
}


def main() -> None:
    """Runs the command line; a user's error is one line on stderr and an exit code."""
    for name, value in _QUIET_LIBRARIES.items():
        os.environ.setdefault(name, value)
    if not os.environ.get("APC_DEBUG"):
        warnings.simplefilter("ignore")
    code = _run()
    leave_with(code)
    sys.exit(code)


def _run() -> int:
    """The exit code of the command, or of the signal that ended it."""
    with Termination() as termination:
        try:
            return app(standalone_mode=False) or 0
        except BaseException as error:
            if not termination.came and not is_interrupt(error):
                return _report_error(error)
    return _report_termination() if termination.came else _report_interrupt()


def _report_termination() -> int:
    if multiprocessing.parent_process() is None:
        typer.echo("terminated; what was finished is kept", err=True)
    return TERMINATED


def _report_interrupt() -> int:
    typer.echo("interrupted; what was finished is kept", err=True)
    return INTERRUPTED


def _report_error(error: BaseException) -> int:
    """A user's error as one line; any other is raised."""
    if isinstance(error, typer.TyperException):
        return _report_usage(error)
    nameless = isinstance(error, OSError) and not error.strerror
    if nameless or os.environ.get("APC_DEBUG") or not isinstance(error, ApcError | OSError):
        raise error
    return _report_failure(error)


def _report_failure(error: ApcError | OSError) -> int:
    if isinstance(error, OSError):
        return _report(f"{error.strerror}: {error.filename or 'APC_DEBUG=1 shows where'}", 1)
    hint = f" — {error.hint}" if error.hint else ""
    return _report(f"{error}{hint}", error.exit_code)


def _report_usage(error: typer.TyperException) -> int:
    """A wrong command line: one line that names the command whose help says more.

    A command that is given nothing at all has printed its help, and has no message.
    """
    if not error.format_message().strip():
        return error.exit_code
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "apc"
    return _report(f"{error.format_message().rstrip('.')} — see: {command} --help", error.exit_code)


def _report(text: str, code: int) -> int:
    from apc_cli.reports.terminal import safe

    typer.echo(" ".join(safe(f"error: {text}").split("\n")), err=True)
    return code
