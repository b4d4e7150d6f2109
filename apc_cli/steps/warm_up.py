"""Faithful answers become the adapter that DPO starts from (experience upload)."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from apc_cli.config import WarmUp
from apc_cli.histories import earlier_turns, fitting
from apc_cli.models import ranks
from apc_cli.models.adapters import save_adapter
from apc_cli.models.training.experience import upload_experience
from apc_cli.records import Experience, Message, Summary

if TYPE_CHECKING:
    from apc_cli.models.playing.role_player import RolePlayer
    from apc_cli.progress import Progress
    from apc_cli.workspace import Workspace


def run(
    player: "RolePlayer",
    experience: Sequence[Experience],
    conversation: Callable[[str, Sequence[Message]], list[Message]],
    settings: WarmUp,
    epochs: float,
    seed: int,
    max_prompt_tokens: int,
    checkpoints: Path,
    workspace: "Workspace",
    progress: "Progress",
) -> Summary:
    """Writes warm_up/."""
    upload_experience(
        player,
        _dialogues(player, experience, conversation, settings, seed, max_prompt_tokens),
        epochs=epochs,
        learning_rate=settings.learning_rate,
        batch_size=settings.batch_size,
        seed=seed,
        checkpoints=checkpoints,
        progress=progress,
    )
    if ranks.own():
        return Summary(len(experience))
    with workspace.new_directory("warm_up") as directory:
        save_adapter(player.model, directory, base=player.reference)
    return Summary(len(experience))


def _dialogues(
    player: "RolePlayer",
    experience: Sequence[Experience],
    conversation: Callable[[str, Sequence[Message]], list[Message]],
    settings: WarmUp,
    seed: int,
    max_prompt_tokens: int,
) -> list[tuple[list[Message], str]]:
    """(conversation, answer) of each row, after as many others as `history_turns` allows."""
    exchanges = [(row.query, row.response) for row in experience]
    found = []
    for row in experience:
        history = earlier_turns(row.query, exchanges, settings.history_turns, seed)
        prompt = fitting(
            partial(conversation, row.query), history, player.count_tokens, max_prompt_tokens
        )
        found.append((prompt, row.response))
    return found
