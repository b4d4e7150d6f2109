"""APC-based DPO: preference pairs become a LoRA adapter (paper section 4.3), by trl and peft."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from apc_cli.errors import ApcError
from apc_cli.models import trainers
from apc_cli.models.lean_training import lean
from apc_cli.models.role_player import RolePlayer
from apc_cli.progress import Progress
from apc_cli.records import PreferencePair


@dataclass(frozen=True)
class PreferenceSettings:
    """DPO's own numbers; `sft_weight` adds the chosen replies' NLL, against drifting off."""

    beta: float
    epochs: float
    learning_rate: float
    batch_size: int
    micro_batch_size: int
    sft_weight: float
    seed: int


def fit_preferences(
    player: RolePlayer,
    pairs: Sequence[PreferencePair],
    settings: PreferenceSettings,
    checkpoints: Path,
    progress: Progress,
) -> None:
    """Trains the player's adapter in place; the adapter as it came is the reference.

    Raises:
        ApcError: after training, the model's outputs are what they were.
    """
    rows = [_row(player, pair) for pair in pairs]
    micro = min(settings.micro_batch_size, settings.batch_size)
    config = DPOConfig(
        **trainers.common_arguments(
            player,
            checkpoints,
            epochs=settings.epochs,
            learning_rate=settings.learning_rate,
            seed=settings.seed,
        ),
        beta=settings.beta,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=max(1, settings.batch_size // micro),
        precompute_ref_log_probs=True,
        loss_type=["sigmoid", "sft"] if settings.sft_weight else ["sigmoid"],
        loss_weights=[1.0, settings.sft_weight] if settings.sft_weight else None,
    )
    probe = player.prompt_text(pairs[0].prompt)
    before = _next_token_logits(player, probe)
    trainer = _LeanReferences(
        model=player.model,
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=player.tokenizer,
    )
    with lean(trainer, pairs=True):
        trainers.run(trainer, checkpoints, "DPO", progress)
    if torch.equal(before, _next_token_logits(player, probe)):
        raise ApcError("DPO changed the adapter but no output of the model")


class _LeanReferences(DPOTrainer):
    """Computes the reference's log-probabilities as training computes the policy's."""

    def compute_ref_log_probs(self, model: Any, inputs: Any) -> Any:
        with lean(self, pairs=True):
            return super().compute_ref_log_probs(model, inputs)


def _row(player: RolePlayer, pair: PreferencePair) -> dict[str, object]:
    return {
        "prompt": player.template_messages(pair.prompt),
        "chosen": list(pair.chosen),
        "rejected": list(pair.rejected),
    }


@torch.no_grad()
def _next_token_logits(player: RolePlayer, text: str) -> torch.Tensor:
    ids = player.tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
    return player.model(input_ids=ids.to(player.model.device)).logits[0, -1].float().cpu()
