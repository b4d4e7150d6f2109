"""The teacher's faithful replies become the adapter that DPO starts from (experience upload)."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from apc_cli.config import WarmUp
from apc_cli.errors import DataError
from apc_cli.models.adapters import save_adapter
from apc_cli.models.experience import upload_experience
from apc_cli.records import Message, NliExample, Query, Summary

if TYPE_CHECKING:
    from apc_cli.models.role_player import RolePlayer
    from apc_cli.progress import Progress
    from apc_cli.workspace import Workspace


def run(
    player: "RolePlayer",
    examples: Sequence[NliExample],
    queries: Sequence[Query],
    conversation: Callable[[str], Sequence[Message]],
    settings: WarmUp,
    seed: int,
    checkpoints: Path,
    workspace: "Workspace",
    progress: "Progress",
) -> Summary:
    """Writes warm_up/; uses replies that were written, and judged, as entailed."""
    allowed = {query.query for query in queries}
    chosen = [
        example
        for example in examples
        if example.query in allowed
        and example.statement == example.written_for
        and example.label == example.written_as == "entailed"
    ]
    if not chosen:
        raise DataError("no entailed reply to learn from", "set warm_up.epochs: 0")
    dialogues = [(conversation(example.query), example.response) for example in chosen]
    upload_experience(
        player,
        dialogues,
        epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        batch_size=settings.batch_size,
        seed=seed,
        checkpoints=checkpoints,
        progress=progress,
    )
    with workspace.new_directory("warm_up") as directory:
        save_adapter(player.model, directory, base=player.reference)
    return Summary(len(chosen))
