"""The command line: options, commands, and errors as text with an exit code.

Each command imports what it runs, so that `apc --help` loads nothing heavy.
"""

import os
import signal
import sys
import warnings
from collections.abc import Collection
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from apc_cli.errors import ApcError, ConfigError

if TYPE_CHECKING:
    from apc_cli.config import Configuration
    from apc_cli.workshop import Workshop


class _Commands(TyperGroup):
    """The commands, with the shell's exit codes for Ctrl-C and for a reader that went away."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            typer.echo("interrupted; what was finished is kept", err=True)
            raise typer.Exit(130) from None
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
app.add_typer(config_app, name="config")

CharacterName = Annotated[
    str | None, typer.Option("--character", "-c", help="configs/NAME.yaml, or wiki/NAME_wiki.txt")
]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="a character file anywhere")]
Profile = Annotated[
    str, typer.Option(envvar="APC_PROFILE", help="gpu (the paper's models) or offline")
]
WorkspaceRoot = Annotated[
    Path, typer.Option("--workspace", envvar="APC_WORKSPACE", help="where artifacts are kept")
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="key=value, over the character file")
]
MaxCost = Annotated[
    float | None, typer.Option("--max-cost", help="US dollars that the LLM may cost in this run")
]
MaxRequests = Annotated[
    int | None, typer.Option("--max-requests", help="requests that may go to the LLM in this run")
]
Force = Annotated[bool, typer.Option("--force", help="build it again even if it is fresh")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="only print what would run, and why")]


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


_STAGE_COMMANDS = {
    "statements": ("statements", "Turn the wiki text into atomic persona statements."),
    "queries": ("queries", "Write user queries for each statement."),
    "train-discriminators": (
        "train-discriminators",
        "Label relevance and NLI data, and train the character's own discriminators.",
    ),
    "build-dpo": ("build-dpo", "Sample replies, score them, and keep preference pairs."),
}
"""Command: (the stage it builds and that --force repeats, help)."""

_BEFORE = {"train-discriminators": ("label-data",)}
"""Stages without a command of their own that --force repeats, too."""


def _add_stage_command(name: str, stage: str, text: str) -> None:
    @app.command(name, help=text)
    def command(
        character: CharacterName = None,
        config: ConfigFile = None,
        profile: Profile = "gpu",
        workspace: WorkspaceRoot = Path("workspace"),
        settings: Settings = None,
        force: Force = False,
        dry_run: DryRun = False,
        max_cost: MaxCost = None,
        max_requests: MaxRequests = None,
    ) -> None:
        limited = _limited(settings, max_cost, max_requests)
        shop = _workshop(character, config, profile, workspace, limited)
        figures = _build(shop, stage, (*_BEFORE.get(stage, ()), stage) if force else (), dry_run)
        if figures and name == "train-discriminators":
            from apc_cli.commands.building import show_discriminators

            show_discriminators(shop, _console(), figures)
        _check_failed(shop)


for _name, (_stage, _text) in _STAGE_COMMANDS.items():
    _add_stage_command(_name, _stage, _text)


@app.command()
def train(
    character: CharacterName = None,
    config: ConfigFile = None,
    profile: Profile = "gpu",
    workspace: WorkspaceRoot = Path("workspace"),
    settings: Settings = None,
    algorithm: Annotated[
        str | None, typer.Option(help="dpo (preference pairs) or grpo (online RL)")
    ] = None,
    force: Force = False,
    dry_run: DryRun = False,
    max_cost: MaxCost = None,
    max_requests: MaxRequests = None,
) -> None:
    """Build everything that is missing, train the adapter, compare before and after."""
    from apc_cli.commands.building import show_evaluation

    limited = _limited(settings, max_cost, max_requests)
    chosen = [f"algorithm={algorithm}"] if algorithm else []
    shop = _workshop(character, config, profile, workspace, [*limited, *chosen])
    _build(shop, "evaluation", [shop.algorithm] if force else [], dry_run)
    if not dry_run:
        show_evaluation(shop, _console())
    _check_failed(shop)


@app.command()
def evaluate(
    character: CharacterName = None,
    config: ConfigFile = None,
    profile: Profile = "gpu",
    workspace: WorkspaceRoot = Path("workspace"),
    settings: Settings = None,
    methods: Annotated[
        str, typer.Option(help="ways of prompting, of vanilla,eu,lcm,rag")
    ] = "vanilla,lcm,rag",
    top_k: Annotated[
        str, typer.Option("--top-k", help="also rag with so many statements, e.g. 1,3,5,7")
    ] = "",
    samples: Annotated[
        int | None, typer.Option(min=1, help="replies a query; else evaluation.samples_per_query")
    ] = None,
    queries: Annotated[str, typer.Option(help="interview, held-out or all")] = "all",
    baseline: Annotated[
        str | None, typer.Option(help="the system to test against; else the untrained method")
    ] = None,
    own_adapters: Annotated[
        bool, typer.Option("--own-adapters", help="train an adapter for each method")
    ] = False,
    untrained: Annotated[
        bool, typer.Option("--untrained", help="only the methods without training")
    ] = False,
    dry_run: DryRun = False,
    max_cost: MaxCost = None,
    max_requests: MaxRequests = None,
) -> None:
    """Compare methods before and after training: tables, tests and plots under reports/."""
    from apc_cli.commands.building import require_adapter
    from apc_cli.commands.comparing import Plan, compare_systems, shops
    from apc_cli.reports.comparison_tables import tables
    from apc_cli.reports.console import cost_line, table

    plan = Plan(
        _words(methods), _numbers(top_k), samples, queries, baseline, own_adapters, not untrained
    )
    plan.check()
    limited = _limited(settings, max_cost, max_requests)
    shop = _workshop(character, config, profile, workspace, limited)
    if untrained:
        _build(shop, "queries", (), dry_run)
    else:
        require_adapter(shop)
    _train_missing(shop, shops(shop, plan), dry_run)
    if dry_run:
        return
    with shop.workspace.lock():
        report = compare_systems(shop, plan)
    for made in tables(report):
        _console().print(table(made.title, made.columns, made.rows))
    if warning := report["evaluator"].get("warning"):
        _progress().say(f"warning: {warning}")
    for ending in ("json", "md", "html"):
        typer.echo(shop.workspace.path(f"reports/evaluation.{ending}"))
    if cost := shop.cost():
        shop.progress.say(f"asked: {cost_line(cost)}")
    _check_failed(shop)


@app.command()
def score(
    file: Annotated[
        str,
        typer.Argument(
            help="rows with query and response: JSONL, CSV, Parquet; a folder; - is stdin"
        ),
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", help="where scored rows go; - is stdout")
    ] = "-",
    skip_bad: Annotated[
        Path | None, typer.Option("--skip-bad", help="list what is no row there, score the rest")
    ] = None,
    nearest: Annotated[
        float,
        typer.Option("--nearest", min=0, max=1, help="judge only this share of the statements"),
    ] = 1.0,
    gpus: Annotated[int, typer.Option("--gpus", min=0, help="one process for each GPU")] = 0,
    workers: Annotated[int, typer.Option("--workers", min=1, help="so many processes")] = 1,
    engine: Annotated[str, typer.Option("--engine", help="local, or ray: a Ray cluster")] = "local",
    explain: Annotated[
        bool, typer.Option("--explain", help="add every statement's verdict")
    ] = False,
    fail_under: Annotated[
        float | None, typer.Option("--fail-under", help="exit 4 when the mean is lower")
    ] = None,
    metric: Annotated[
        str, typer.Option("--metric", help="what --fail-under looks at: score, delta")
    ] = "score",
    character: CharacterName = None,
    config: ConfigFile = None,
    profile: Profile = "gpu",
    workspace: WorkspaceRoot = Path("workspace"),
    settings: Settings = None,
    max_cost: MaxCost = None,
    max_requests: MaxRequests = None,
) -> None:
    """Add the APC score to each row of a file; a killed run goes on where it was."""
    from apc_cli.commands.scoring import ScoreCommand, Spread
    from apc_cli.reports.console import cost_line

    _check_scoring(file, output, skip_bad, metric, fail_under, engine)
    limited = _limited(settings, max_cost, max_requests)
    shop = _workshop(character, config, profile, workspace, limited, anyone=True)
    shop.strict = False
    who = shop.character.character if character or config else None
    command = ScoreCommand(shop, who, workspace, Spread(engine, gpus, workers), nearest)
    totals = command.run(file, output, explain=explain, skip_bad=skip_bad)
    _console().print(command.summary(totals))
    if cost := shop.cost():
        shop.progress.say(f"asked: {cost_line(cost)}")
    if totals.errors:
        raise typer.Exit(3)
    if fail_under is not None and totals.mean(metric) < fail_under:
        _progress().say(f"mean {metric} {totals.mean(metric):.4f} is under {fail_under}")
        raise typer.Exit(4)


@app.command("check-judge")
def check_judge(
    file: Annotated[str, typer.Argument(help="labelled JSONL rows (see README); - is stdin")],
    personas: Annotated[
        Path | None,
        typer.Option(help="JSON: character → all its statements, for ranked replies"),
    ] = None,
    reward: Annotated[
        bool, typer.Option("--reward", help="check the reward pair, not the evaluator pair")
    ] = False,
    character: CharacterName = None,
    config: ConfigFile = None,
    profile: Profile = "gpu",
    workspace: WorkspaceRoot = Path("workspace"),
    settings: Settings = None,
) -> None:
    """Compare the judges with labels that people gave: agreement, calibration, ranking."""
    import json

    from apc_cli.commands.checking import check_judges
    from apc_cli.reports.console import agreement_table, reliability_table, sure_line

    shop = _workshop(character, config, profile, workspace, settings, anyone=True)
    report = check_judges(shop, file, personas, reward=reward)
    _console().print(agreement_table(report))
    for kind in ("relevance", "nli"):
        if kind in report:
            _console().print(reliability_table(kind, report[kind]["judge"]))
            shop.progress.say(sure_line(kind, report[kind]["judge"]))
    typer.echo(json.dumps(report, allow_nan=False))


@app.command()
def lint(
    character: CharacterName = None,
    config: ConfigFile = None,
    profile: Profile = "gpu",
    workspace: WorkspaceRoot = Path("workspace"),
    settings: Settings = None,
    strict: Annotated[bool, typer.Option("--strict", help="exit 4 if anything is found")] = False,
) -> None:
    """Find duplicate, contradicting, compound, vague and never-asked persona statements."""
    import json

    from apc_cli.commands.checking import lint_persona
    from apc_cli.reports.console import lint_table

    shop = _workshop(character, config, profile, workspace, settings)
    _build(shop, "statements", (), dry_run=False)
    _check_failed(shop)
    findings = lint_persona(shop)
    if findings:
        _console().print(lint_table(findings))
    for finding in findings:
        typer.echo(json.dumps(finding))
    shop.progress.say(f"{len(findings)} findings in {len(shop.statements())} statements")
    if findings and strict:
        raise typer.Exit(4)


@app.command()
def chat(
    character: CharacterName = None,
    config: ConfigFile = None,
    profile: Profile = "gpu",
    workspace: WorkspaceRoot = Path("workspace"),
    settings: Settings = None,
    base: Annotated[bool, typer.Option("--base", help="talk to the untrained model")] = False,
) -> None:
    """Talk to the character. /why, /reset and /help work inside; Ctrl-D ends it."""
    from apc_cli.commands.chatting import talk

    shop = _workshop(character, config, profile, workspace, settings)
    talk(shop, _console(), profile, base=base)


@app.command()
def export(
    character: CharacterName = None,
    config: ConfigFile = None,
    profile: Profile = "gpu",
    workspace: WorkspaceRoot = Path("workspace"),
    settings: Settings = None,
    adapter: Annotated[
        bool, typer.Option("--adapter", help="keep the adapter apart from the base model")
    ] = False,
    to: Annotated[
        Path | None, typer.Option(help="where to; else export/ in the character's workspace")
    ] = None,
    dtype: Annotated[
        str, typer.Option(help="of the weights: auto, bfloat16, float16, float32")
    ] = "auto",
    force: Annotated[bool, typer.Option("--force", help="replace what is there")] = False,
) -> None:
    """Write a plain Hugging Face model, or the adapter, with a model card and serving lines."""
    from apc_cli.commands.building import require_adapter
    from apc_cli.commands.exporting import export as write

    if dtype not in ("auto", "bfloat16", "float16", "float32"):
        raise ConfigError(f"--dtype {dtype} is unknown", "use auto, bfloat16, float16 or float32")
    shop = _workshop(character, config, profile, workspace, settings)
    require_adapter(shop)
    kind = "adapter" if adapter else "merged"
    target = to or shop.workspace.path(f"export/{kind}")
    shop.preflight(["build-dpo"])
    with shop.workspace.lock():
        lines = write(shop, target, merged=not adapter, dtype=dtype, force=force)
    shop.progress.say(f"{target}: model card in README.md; to serve it:")
    for server, commands in lines:
        typer.echo(f"# {server}")
        for command in commands:
            typer.echo(_safe(command))


@config_app.command("show")
def config_show(
    character: CharacterName = None,
    config: ConfigFile = None,
    profile: Profile = "gpu",
    settings: Settings = None,
) -> None:
    """Print the resolved configuration with where each value comes from."""
    for key, value, origin in _configuration(character, config, profile, settings).rows():
        typer.echo(f"{key + ': ' + value:<72} # {origin}")


def _configuration(
    character: str | None, file: Path | None, profile: str, settings: list[str] | None
) -> "Configuration":
    from apc_cli.config import load_config

    return load_config(character, file=file, profile=profile, settings=tuple(settings or ()))


def _workshop(
    character: str | None,
    file: Path | None,
    profile: str,
    workspace: Path,
    settings: list[str] | None,
    *,
    anyone: bool = False,
) -> "Workshop":
    """The character's; with `anyone` and none named, the profile's for any row."""
    from apc_cli.workshop import Workshop
    from apc_cli.workspace import Workspace

    if anyone and not (character or file):
        from apc_cli.commands.scoring import any_character

        return any_character(profile, tuple(settings or ()), workspace, _progress())
    config = _configuration(character, file, profile, settings)
    place = Workspace(workspace, config.character.character)
    return Workshop(config, place, _progress(), Path("."))


def _limited(
    settings: list[str] | None, max_cost: float | None, max_requests: int | None
) -> list[str]:
    """The settings with the limits of this run."""
    limits = {"teacher.max_cost": max_cost, "teacher.max_requests": max_requests}
    return [*(settings or ()), *(f"{key}={v}" for key, v in limits.items() if v is not None)]


def _check_failed(shop: "Workshop") -> None:
    """Exit code 3 when items of the stages that ran had no answer."""
    from apc_cli.workspace import FAILURES

    if shop.failed:
        shop.progress.say(f"{shop.failed} items failed: see {shop.workspace.path(FAILURES)}")
        raise typer.Exit(3)


def _train_missing(shop: "Workshop", shops: "list[Workshop]", dry_run: bool) -> None:
    """Trains the adapters to compare, once it is sure that they can be measured."""
    if not dry_run:
        shop.preflight(["evaluation"])
    for each in shops:
        _build(each, each.algorithm, (), dry_run)


def _build(
    shop: "Workshop", target: str, force: Collection[str], dry_run: bool
) -> dict[str, Any] | None:
    """Builds a stage and what it needs; `force` names stages to repeat."""
    from apc_cli.commands.building import build

    return build(shop, _console(), target, force=force, dry_run=dry_run)


def _safe(text: str) -> str:
    from apc_cli.reports.terminal import safe

    return safe(text)


def _words(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word for part in text.split(",") if (word := part.strip())))


def _numbers(text: str) -> tuple[int, ...]:
    """Whole numbers from 1 up, between commas."""
    words = _words(text)
    if not all(word.isdecimal() and int(word) for word in words):
        raise ConfigError(f"--top-k {text} is no list of whole numbers", "e.g. --top-k 1,3,5,7")
    return tuple(sorted(map(int, words)))


def _check_scoring(
    file: str,
    output: str,
    skip_bad: Path | None,
    metric: str,
    fail_under: float | None,
    engine: str,
) -> None:
    """Finds out what is wrong with the options of `apc score` before any work is done."""
    if metric not in ("score", "delta"):
        raise ConfigError(f"--metric {metric} is unknown", "use score or delta")
    if fail_under is not None and not isfinite(fail_under):
        raise ConfigError(f"--fail-under {fail_under} is no number", "e.g. --fail-under 3.5")
    if engine not in ("local", "ray"):
        raise ConfigError(f"--engine {engine} is unknown", "use local or ray")
    if output != "-":
        _check_output(Path(file), Path(output), "-o")
    if skip_bad:
        _check_output(Path(file), skip_bad, "--skip-bad")
        if output != "-" and skip_bad.absolute() == Path(output).absolute():
            raise ConfigError("-o and --skip-bad name one file", "give each its own")


def _check_output(source: Path, target: Path, option: str) -> None:
    """Finds out before any work is done."""
    if target.is_dir() or not target.parent.is_dir():
        where = target if target.is_dir() else target.parent
        kind = "a directory" if target.is_dir() else "no directory"
        raise ConfigError(f"{where} is {kind}", f"give {option} a file in a directory that exists")
    if source.is_file() and target.exists() and source.samefile(target):
        raise ConfigError(f"{target} is the input itself", f"give another file to {option}")
    if source.is_dir() and target.parent.samefile(source):
        raise ConfigError(f"{target} lies among the input", f"give {option} another folder")


def _console() -> Any:
    from rich.console import Console

    return Console(stderr=True)


def _progress() -> Any:
    from apc_cli.reports.console import ConsoleProgress

    return ConsoleProgress(_console())


def _terminate(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


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
    signal.signal(signal.SIGTERM, _terminate)
    if not os.environ.get("APC_DEBUG"):
        warnings.simplefilter("ignore")
    try:
        sys.exit(app(standalone_mode=False))
    except typer.TyperException as error:
        sys.exit(_report_usage(error))
    except (ApcError, OSError) as error:
        if os.environ.get("APC_DEBUG") or (isinstance(error, OSError) and not error.strerror):
            raise
        sys.exit(_report_failure(error))


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


if __name__ == "__main__":
    main()
