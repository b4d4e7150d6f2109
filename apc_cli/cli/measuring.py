"""Commands that measure: score, evaluate, check-judge, lint."""

from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from apc_cli.cli.options import (
    CharacterName,
    ConfigFile,
    DryRun,
    MaxCost,
    MaxRequests,
    Profile,
    Settings,
    WorkspaceRoot,
    build,
    check_failed,
    console,
    limited,
    progress,
    workshop,
)
from apc_cli.errors import ConfigError

if TYPE_CHECKING:
    from apc_cli.workshop import Workshop


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
    settings = limited(settings, max_cost, max_requests)
    shop = workshop(character, config, profile, workspace, settings, anyone=True)
    shop.strict = False
    who = shop.character.character if character or config else None
    command = ScoreCommand(shop, who, workspace, Spread(engine, gpus, workers), nearest)
    totals = command.run(file, output, explain=explain, skip_bad=skip_bad)
    console().print(command.summary(totals))
    if cost := shop.cost():
        shop.progress.say(f"asked: {cost_line(cost)}")
    if totals.errors:
        raise typer.Exit(3)
    if fail_under is not None and totals.mean(metric) < fail_under:
        progress().say(f"mean {metric} {totals.mean(metric):.4f} is under {fail_under}")
        raise typer.Exit(4)


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
    from apc_cli.commands.comparing import Plan, baseline_of, compare_systems, shops
    from apc_cli.reports.comparison_tables import tables
    from apc_cli.reports.console import cost_line, table

    plan = Plan(
        _words(methods), _numbers(top_k), samples, queries, baseline, own_adapters, not untrained
    )
    plan.check()
    settings = limited(settings, max_cost, max_requests)
    shop = workshop(character, config, profile, workspace, settings)
    plan.check_policy(shop.character.policy)
    baseline_of(shop, plan)  # before anything is trained
    if untrained:
        build(shop, "queries", (), dry_run)
    else:
        require_adapter(shop)
    _train_missing(shop, shops(shop, plan), dry_run)
    if dry_run:
        return
    with shop.workspace.lock():
        report = compare_systems(shop, plan)
    for made in tables(report):
        console().print(table(made.title, made.columns, made.rows))
    if warning := report["evaluator"].get("warning"):
        progress().say(f"warning: {warning}")
    for ending in ("json", "md", "html"):
        typer.echo(shop.workspace.path(f"reports/evaluation.{ending}"))
    if cost := shop.cost():
        shop.progress.say(f"asked: {cost_line(cost)}")
    check_failed(shop)


def check_judge(
    file: Annotated[str, typer.Argument(help="labelled rows: JSONL, CSV, Parquet; - is stdin")],
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
    from apc_cli.records import NLI_LABELS, RELEVANCE_LABELS
    from apc_cli.reports.agreement import baseline_lines
    from apc_cli.reports.console import (
        agreement_table,
        confusion_table,
        reliability_table,
        sure_line,
    )

    shop = workshop(character, config, profile, workspace, settings, anyone=True)
    report = check_judges(shop, file, personas, reward=reward)
    console().print(agreement_table(report))
    for kind, labels in (("relevance", RELEVANCE_LABELS), ("nli", NLI_LABELS)):
        if kind in report:
            console().print(confusion_table(kind, report[kind]["judge"], labels))
            console().print(reliability_table(kind, report[kind]["judge"]))
            shop.progress.say(sure_line(kind, report[kind]["judge"]))
            for line in baseline_lines(kind, report[kind]):
                shop.progress.say(line)
    typer.echo(json.dumps(report, allow_nan=False))


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

    shop = workshop(character, config, profile, workspace, settings)
    build(shop, "statements", (), dry_run=False)
    check_failed(shop)
    findings = lint_persona(shop)
    if findings:
        console().print(lint_table(findings))
    for finding in findings:
        typer.echo(json.dumps(finding))
    shop.progress.say(f"{len(findings)} findings in {len(shop.statements())} statements")
    if findings and strict:
        raise typer.Exit(4)


def _train_missing(shop: "Workshop", shops: "list[Workshop]", dry_run: bool) -> None:
    """Trains the adapters to compare, once it is sure that they can be measured."""
    from apc_cli.preflight import preflight

    if not dry_run:
        preflight(shop, ["evaluation"])
    for each in shops:
        build(each, each.algorithm, (), dry_run)


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
