"""Options that many commands have, and what they stand for."""

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from apc_cli.errors import ConfigError

if TYPE_CHECKING:
    from apc_cli.config import Configuration
    from apc_cli.workshop import Workshop

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


def configuration(
    character: str | None, file: Path | None, profile: str, settings: list[str] | None
) -> "Configuration":
    from apc_cli.config import load_config

    return load_config(character, file=file, profile=profile, settings=tuple(settings or ()))


def workshop(
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

        return any_character(profile, tuple(settings or ()), workspace, progress())
    config = configuration(character, file, profile, settings)
    place = Workspace(workspace, config.character.character)
    return Workshop(config, place, progress(), Path("."))


def limited(
    settings: list[str] | None, max_cost: float | None, max_requests: int | None
) -> list[str]:
    """The settings with the limits of this run."""
    limits = {"teacher.max_cost": max_cost, "teacher.max_requests": max_requests}
    return [*(settings or ()), *(f"{key}={v}" for key, v in limits.items() if v is not None)]


def check_team(shop: "Workshop", processes: int) -> None:
    """Raises ConfigError where so many processes cannot train together."""
    character = shop.character
    grpo = character.grpo
    batches = {"dpo.batch_size": character.dpo.batch_size}
    if character.algorithm == "grpo":
        replies = grpo.queries_per_step * grpo.samples_per_query
        batches = {"grpo.queries_per_step × grpo.samples_per_query": replies}
    if shop.start:
        batches["warm_up.batch_size"] = character.warm_up.batch_size
    for name, batch in batches.items():
        if batch % processes:
            raise ConfigError(
                f"a batch of {batch} cannot be divided among {processes} GPUs",
                f"set {name} to a multiple of {processes}",
            )


def check_failed(shop: "Workshop") -> None:
    """Exit code 3 when items of the stages that ran had no answer."""
    from apc_cli.workspace import FAILURES

    if shop.failed:
        shop.progress.say(f"{shop.failed} items failed: see {shop.workspace.path(FAILURES)}")
        raise typer.Exit(3)


def build(shop: "Workshop", target: str, force: Collection[str], dry_run: bool) -> None:
    """Builds a stage and what it needs; `force` names stages to repeat."""
    from apc_cli.commands.building import build

    build(shop, console(), target, force=force, dry_run=dry_run)


def console() -> Any:
    from rich.console import Console

    return Console(stderr=True)


def progress() -> Any:
    from apc_cli.reports.console import ConsoleProgress

    return ConsoleProgress(console())
