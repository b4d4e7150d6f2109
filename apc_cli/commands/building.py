"""What the stage commands show: the plan, each finished stage, and what was trained."""

import json
from collections.abc import Collection
from functools import partial

from rich.console import Console

from apc_cli.errors import ConfigError
from apc_cli.models import ranks
from apc_cli.pipeline import Planned, Stage
from apc_cli.preflight import check_backend, check_sharding, preflight
from apc_cli.records import NLI_LABELS, RELEVANCE_LABELS, Summary
from apc_cli.reports.console import (
    confusion_table,
    cost_line,
    discriminator_tables,
    evaluation_table,
    gain_line,
    label_table,
    sure_line,
    table,
)
from apc_cli.reports.gaps import pair_rows
from apc_cli.running import run_stage, tidy
from apc_cli.stages import ROUND
from apc_cli.workshop import Workshop, require


def build(
    shop: Workshop, console: Console, target: str, *, force: Collection[str], dry_run: bool
) -> None:
    """Prints the plan, runs it, shows what was made; `force` names stages to repeat.

    Of a stage with rounds, all are repeated.

    Raises:
        ConfigError: the source text is not there, or what the stages need is not.
    """
    pipeline = shop.pipeline()
    if not shop.source.is_file():
        if shop.character.persona.statements:
            raise ConfigError(
                f"{shop.source} does not exist, which persona.statements names",
                "write the statements there, one a line",
            )
        raise ConfigError(
            f"{shop.source} does not exist",
            "write the character's facts there, paragraphs separated by blank lines",
        )
    force = [name for name in pipeline.stages if name.partition(ROUND)[0] in force]
    planned = pipeline.plan(target, force=force)
    _announce(shop, target, planned)
    if not planned and target == "train-discriminators":
        show_discriminators(shop, console)
    if dry_run or not planned:
        return
    stages = [plan.stage.name for plan in planned]
    check_backend(shop.character, stages)
    check_sharding(shop.character, stages, ranks.count())
    preflight(shop, stages)
    with shop.workspace.lock():
        for stage, summary, seconds in pipeline.run(target, partial(run_stage, shop), force=force):
            tidy(shop, stage)
            _tell(shop, console, stage, summary, seconds)


def show_discriminators(shop: Workshop, console: Console) -> None:
    """The labels that the discriminators were trained on, and how well they agree with them."""
    report = json.loads(shop.workspace.path("discriminators.json").read_text(encoding="utf-8"))
    console.print(label_table(report.pop("labels")))
    for made in discriminator_tables(report):
        console.print(made)
    for kind, labels in (("relevance", RELEVANCE_LABELS), ("nli", NLI_LABELS)):
        for on in ("", " on others"):
            if found := report[kind][f"held out{on}"]:
                console.print(confusion_table(f"{kind}{on}", found, labels))
                shop.progress.say(sure_line(f"{kind}{on}", found))


def show_evaluation(shop: Workshop, console: Console) -> None:
    """The table before and after training, the gain, and three queries with their replies."""
    report = json.loads(shop.workspace.path("evaluation.json").read_text(encoding="utf-8"))
    console.print(evaluation_table(report))
    shop.progress.say(gain_line(report))
    for sample in report["samples"][:3]:
        shop.progress.say(f"\nQ: {sample['query']}")
        for system in ("base", "before", "after"):
            if system in sample:
                shop.progress.say(f"  {system}: {sample[system]}")


def require_adapter(shop: Workshop) -> None:
    """Raises ConfigError where no adapter was trained."""
    name = shop.character.character
    command = f"apc train --character '{name}' --profile {shop.config.profile}"
    require(shop.workspace.path("adapter"), "the adapter", command)


def _announce(shop: Workshop, target: str, planned: list[Planned]) -> None:
    say = shop.progress.say
    if not planned:
        say(f"{target}: nothing to do, all is fresh in {shop.workspace.directory}")
    for plan in planned:
        verb = "will run" if plan.certain else "may run"
        say(f"{verb} {plan.stage.name}: {'; '.join(plan.reasons)}")
    for line in shop.estimate([plan.stage.name for plan in planned]):
        say(line)


def _tell(shop: Workshop, console: Console, stage: Stage, summary: Summary, seconds: float) -> None:
    say = shop.progress.say
    dropped = ", ".join(f"{n} {why}" for why, n in summary.dropped.items())
    lost = f", dropped: {dropped}" if dropped else ""
    where = ", ".join(stage.writes)
    say(f"{stage.name}: {summary.kept} kept{lost} → {where} ({seconds:.0f} s)")
    if summary.cost:
        say(f"  asked: {cost_line(summary.cost)}")
    if stage.name == "train-discriminators":
        show_discriminators(shop, console)
    if stage.name.startswith("build-dpo"):
        rows = pair_rows(summary.figures)
        console.print(table(f"Preference pairs ({stage.name})", ["", ""], rows))
