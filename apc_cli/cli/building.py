"""Commands that build stages: statements to trained adapter."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from apc_cli.cli.options import (
    CharacterName,
    ConfigFile,
    DryRun,
    Force,
    MaxCost,
    MaxRequests,
    Profile,
    Settings,
    WorkspaceRoot,
    build,
    check_failed,
    check_team,
    console,
    limited,
    workshop,
)

STAGES = {
    "statements": "Turn the wiki text into atomic persona statements.",
    "queries": "Write user queries for each statement.",
    "train-discriminators": (
        "Label relevance and NLI data, and train the character's own discriminators."
    ),
    "build-dpo": "Sample replies, score them, keep preference pairs; train earlier rounds first.",
}
"""The stages that are commands: what each does."""

_BEFORE = {"train-discriminators": ("label-data",)}
"""Stages without a command of their own that --force repeats, too."""


def stage_command(stage: str) -> Callable[..., None]:
    """The command that builds a stage and what it needs."""

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
        settings = limited(settings, max_cost, max_requests)
        shop = workshop(character, config, profile, workspace, settings)
        build(shop, stage, (*_BEFORE.get(stage, ()), stage) if force else (), dry_run)
        check_failed(shop)

    return command


def train(
    character: CharacterName = None,
    config: ConfigFile = None,
    profile: Profile = "gpu",
    workspace: WorkspaceRoot = Path("workspace"),
    settings: Settings = None,
    algorithm: Annotated[
        str | None, typer.Option(help="dpo (preference pairs) or grpo (online RL)")
    ] = None,
    num_gpus: Annotated[
        int, typer.Option("--num-gpus", min=1, help="train on so many GPUs of this machine")
    ] = 1,
    force: Force = False,
    dry_run: DryRun = False,
    max_cost: MaxCost = None,
    max_requests: MaxRequests = None,
) -> None:
    """Build everything that is missing, train the adapter, compare before and after."""
    from apc_cli.cli.team import help_along, launch
    from apc_cli.commands.building import show_evaluation
    from apc_cli.models import ranks

    settings = limited(settings, max_cost, max_requests)
    chosen = [f"algorithm={algorithm}"] if algorithm else []
    shop = workshop(character, config, profile, workspace, [*settings, *chosen])
    check_team(shop, max(num_gpus, ranks.count()))
    if num_gpus > 1 and ranks.count() == 1 and not dry_run:
        raise typer.Exit(launch(num_gpus, shop.character.device))
    if ranks.own():
        return help_along(shop)
    build(shop, "evaluation", [shop.algorithm] if force else [], dry_run)
    ranks.call()
    if not dry_run:
        show_evaluation(shop, console())
    check_failed(shop)
