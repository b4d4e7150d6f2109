"""Commands that use what was made: chat, export, config show."""

from pathlib import Path
from typing import Annotated

import typer

from apc_cli.cli.options import (
    CharacterName,
    ConfigFile,
    Profile,
    Settings,
    WorkspaceRoot,
    configuration,
    console,
    workshop,
)
from apc_cli.errors import ConfigError


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

    shop = workshop(character, config, profile, workspace, settings)
    talk(shop, console(), profile, base=base)


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
    from apc_cli.preflight import check_export_space, preflight
    from apc_cli.reports.terminal import safe

    if dtype not in ("auto", "bfloat16", "float16", "float32"):
        raise ConfigError(f"--dtype {dtype} is unknown", "use auto, bfloat16, float16 or float32")
    shop = workshop(character, config, profile, workspace, settings)
    require_adapter(shop)
    kind = "adapter" if adapter else "merged"
    target = to or shop.workspace.path(f"export/{kind}")
    preflight(shop, ["build-dpo"])
    check_export_space(shop, target, merged=not adapter, dtype=dtype)
    with shop.workspace.lock():
        lines = write(shop, target, merged=not adapter, dtype=dtype, force=force)
    shop.progress.say(f"{target}: model card in README.md; to serve it:")
    for server, commands in lines:
        typer.echo(f"# {server}")
        for command in commands:
            typer.echo(safe(command))


def config_show(
    character: CharacterName = None,
    config: ConfigFile = None,
    profile: Profile = "gpu",
    settings: Settings = None,
) -> None:
    """Print the resolved configuration with where each value comes from."""
    for key, value, origin in configuration(character, config, profile, settings).rows():
        typer.echo(f"{key + ': ' + value:<72} # {origin}")
