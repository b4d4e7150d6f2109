"""Faithful answers become the adapter that DPO starts from (experience upload)."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from apc_cli.config import WarmUp
from apc_cli.models.adapters import save_adapter
from apc_cli.models.experience import upload_experience
from apc_cli.records import Experience, Message, Summary

if TYPE_CHECKING:
    from apc_cli.models.role_player import RolePlayer
    from apc_cli.progress import Progress
    from apc_cli.workspace import Workspace


def run(
    player: "RolePlayer",
    experience: Sequence[Experience],
    conversation: Callable[[str], Sequence[Message]],
    settings: WarmUp,
    epochs: float,
    seed: int,
    checkpoints: Path,
    workspace: "Workspace",
    progress: "Progress",
) -> Summary:
    """Writes warm_up/."""
    upload_experience(
        player,
        [(conversation(row.query), row.response) for row in experience],
        epochs=epochs,
        learning_rate=settings.learning_rate,
        batch_size=settings.batch_size,
        seed=seed,
        checkpoints=checkpoints,
        progress=progress,
    )
    with workspace.new_directory("warm_up") as directory:
        save_adapter(player.model, directory, base=player.reference)
    return Summary(len(experience))
