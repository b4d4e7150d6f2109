"""Experience upload: SFT on faithful replies (paper section 4.2), the start that DPO works from."""

from collections.abc import Sequence
from pathlib import Path

from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from apc_cli.models import ranks
from apc_cli.models.playing.role_player import RolePlayer
from apc_cli.models.training import trainers
from apc_cli.models.training.lean_training import lean
from apc_cli.models.training.packed_pairs import Branches
from apc_cli.models.training.training_plans import Plan
from apc_cli.models.training.within_memory import train_within_memory
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

    def attempt(plan: Plan) -> None:
        config = SFTConfig(
            **trainers.common_arguments(
                player, checkpoints, epochs=epochs, learning_rate=learning_rate, seed=seed,
                recompute=plan.recompute,
            ),
            per_device_train_batch_size=plan.rows,
            gradient_accumulation_steps=ranks.share(batch_size) // plan.rows,
        )  # fmt: skip
        trainer = SFTTrainer(
            model=player.model,
            args=config,
            train_dataset=Dataset.from_list(rows),
            processing_class=player.tokenizer,
        )
        with lean(trainer.model, pairs=False):
            trainers.run(trainer, checkpoints, "Experience upload (SFT)", progress)

    longest = max((_tokens(player, *dialogue) for dialogue in dialogues), key=lambda row: row.size)
    train_within_memory(player, batch_size, batch_size, longest, attempt, checkpoints, progress)


def _tokens(player: RolePlayer, conversation: Sequence[Message], reply: str) -> Branches:
    texts = (player.prompt_text(conversation), reply + player.tokenizer.eos_token)
    prompt, answer = player.tokenizer(list(texts), add_special_tokens=False).input_ids
    return Branches(prompt, answer, [])
