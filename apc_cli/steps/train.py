"""Preference pairs become the adapter (paper section 4.3)."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from apc_cli.config import Dpo
from apc_cli.models import ranks
from apc_cli.models.adapters import save_adapter
from apc_cli.models.training.preference import PreferenceSettings, fit_preferences
from apc_cli.records import PreferencePair, Summary
from apc_cli.reports.adapter_card import adapter_card

if TYPE_CHECKING:
    from apc_cli.models.playing.role_player import RolePlayer
    from apc_cli.progress import Progress
    from apc_cli.workspace import Workspace


def run(
    character: str,
    player: "RolePlayer",
    pairs: Sequence[PreferencePair],
    settings: Dpo,
    round_number: int,
    seed: int,
    checkpoints: Path,
    workspace: "Workspace",
    progress: "Progress",
) -> Summary:
    """Writes adapter/, which plain peft loads, with its model card."""
    figures = fit_preferences(
        player,
        pairs,
        PreferenceSettings(
            beta=settings.beta,
            epochs=settings.epochs,
            learning_rate=settings.learning_rate,
            batch_size=settings.batch_size,
            micro_batch_size=None
            if settings.micro_batch_size == "auto"
            else settings.micro_batch_size,
            sft_weight=settings.sft_weight,
            seed=seed,
            loss=settings.loss,
            label_smoothing=settings.label_smoothing,
            f_divergence=settings.f_divergence,
            held_out_share=settings.held_out_share,
            patience=settings.patience,
        ),
        checkpoints,
        progress,
    )
    if ranks.own():
        return Summary(len(pairs))
    with workspace.new_directory("adapter") as directory:
        save_adapter(player.model, directory, base=player.reference)
        player.tokenizer.save_pretrained(directory)
        card = adapter_card(
            character, player.reference, "DPO",
            f"{len(pairs)} preference pairs (round {round_number}) whose replies were",
            {"LoRA rank / alpha": f"{settings.lora_rank} / {settings.lora_alpha}",
             "loss": settings.loss, "β": settings.beta, "epochs": settings.epochs,
             "learning rate": settings.learning_rate},
        )  # fmt: skip
        (directory / "README.md").write_text(card, encoding="utf-8")
    for name, value in figures.items():
        progress.say(f"{name}: {value}")
    return Summary(len(pairs), figures=figures)
