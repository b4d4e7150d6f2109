"""Experience upload: SFT on faithful replies (paper section 4.2), the start that DPO works from."""

from collections.abc import Sequence
from pathlib import Path

from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from apc_cli.models import trainers
from apc_cli.models.lean_training import lean
from apc_cli.models.role_player import RolePlayer
from apc_cli.progress import Progress
from apc_cli.records import Message


def upload_experience(
    player: RolePlayer,
    dialogues: Sequence[tuple[Sequence[Message], str]],
    *,
    epochs: float,
    learning_rate: float,
    batch_size: int,
    seed: int,
    checkpoints: Path,
    progress: Progress,
) -> None:
    """Trains the player's adapter in place on (conversation, reply); only the reply counts."""
    rows = [
        {
            "prompt": player.template_messages(conversation),
            "completion": [{"role": "assistant", "content": reply}],
        }
        for conversation, reply in dialogues
    ]
    config = SFTConfig(
        **trainers.common_arguments(
            player, checkpoints, epochs=epochs, learning_rate=learning_rate, seed=seed
        ),
        per_device_train_batch_size=batch_size,
    )
    trainer = SFTTrainer(
        model=player.model,
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=player.tokenizer,
    )
    with lean(trainer.model, pairs=False):
        trainers.run(trainer, checkpoints, "Experience upload (SFT)", progress)
