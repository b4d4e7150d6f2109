"""APC-based DPO: preference pairs become a LoRA adapter (paper section 4.3), by trl and peft."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import EarlyStoppingCallback
from trl import DPOConfig

from apc_cli.errors import ApcError, DataError
from apc_cli.models import ranks
from apc_cli.models.playing.role_player import RolePlayer
from apc_cli.models.training import trainers
from apc_cli.models.training.dpo_trainer import LeanDpoTrainer
from apc_cli.models.training.lean_training import lean
from apc_cli.models.training.packed_pairs import Branches
from apc_cli.models.training.training_plans import Plan
from apc_cli.models.training.within_memory import train_within_memory
from apc_cli.progress import Progress
from apc_cli.records import PreferencePair


@dataclass(frozen=True)
class PreferenceSettings:
    """DPO's own numbers; `sft_weight` adds the chosen replies' NLL, against drifting off.

    `micro_batch_size` pairs are read at once; None: what a GPU's memory takes, and 1 on a CPU.
    With a `held_out_share` of the prompts, training stops early: see `config.Dpo`.
    """

    beta: float
    epochs: float
    learning_rate: float
    batch_size: int
    micro_batch_size: int | None
    sft_weight: float
    seed: int
    loss: str = "sigmoid"
    label_smoothing: float = 0.0
    f_divergence: str = "reverse_kl"
    held_out_share: float = 0.0
    patience: int = 1


def fit_preferences(
    player: RolePlayer,
    pairs: Sequence[PreferencePair],
    settings: PreferenceSettings,
    checkpoints: Path,
    progress: Progress,
) -> dict[str, Any]:
    """Trains the player's adapter in place; the adapter as it came is the reference.

    Returns:
        Figures of the held-out pairs, where any are held out.

    Raises:
        ApcError: after training, the model's outputs are what they were.
    """
    sides = _split(pairs, settings.held_out_share, settings.seed)
    probe = player.prompt_text(pairs[0].prompt)
    before = _next_token_logits(player, probe)
    rows = [Dataset.from_list([_row(player, pair) for pair in side]) for side in sides if side]

    def attempt(plan: Plan) -> LeanDpoTrainer:
        if "ref" in player.model.peft_config:  # an attempt before ran out of memory
            player.model.delete_adapter("ref")
        trainer = _trainer(player, settings, checkpoints, plan, rows)
        with lean(trainer.model, pairs=True):
            trainer.add_references()
            rows[:] = [trainer.train_dataset, trainer.eval_dataset][: len(rows)]
            trainers.run(trainer, checkpoints, "DPO", progress)
        return trainer

    longest = max((_tokens(player, pair) for pair in pairs), key=lambda row: row.size)
    trainer = train_within_memory(
        player,
        settings.batch_size,
        settings.micro_batch_size,
        longest,
        attempt,
        checkpoints,
        progress,
    )
    if torch.equal(before, _next_token_logits(player, probe)):
        raise ApcError("DPO changed the adapter but no output of the model")
    return _accuracies(trainer, len(sides[1]))


def _arguments(
    player: RolePlayer,
    settings: PreferenceSettings,
    checkpoints: Path,
    plan: Plan,
    *,
    holds_out: bool,
) -> DPOConfig:
    losses = [settings.loss, "sft"] if settings.sft_weight else [settings.loss]
    return DPOConfig(
        **trainers.common_arguments(
            player,
            checkpoints,
            epochs=settings.epochs,
            learning_rate=settings.learning_rate,
            seed=settings.seed,
            recompute=plan.recompute,
        ),
        **(trainers.best_epoch_arguments("eval_rewards/accuracies") if holds_out else {}),
        beta=settings.beta,
        per_device_train_batch_size=plan.rows,
        per_device_eval_batch_size=1,  # trl averages over batches: exact only if all are equal
        gradient_accumulation_steps=max(1, ranks.share(settings.batch_size) // plan.rows),
        loss_type=losses,
        loss_weights=[1.0, settings.sft_weight] if settings.sft_weight else None,
        label_smoothing=settings.label_smoothing,
        f_divergence_type=settings.f_divergence,
    )


def _trainer(
    player: RolePlayer,
    settings: PreferenceSettings,
    checkpoints: Path,
    plan: Plan,
    rows: Sequence[Dataset],
) -> LeanDpoTrainer:
    """`rows` are those to train on, and those held out if there are any."""
    return LeanDpoTrainer(
        model=player.model,
        args=_arguments(player, settings, checkpoints, plan, holds_out=len(rows) > 1),
        train_dataset=rows[0],
        eval_dataset=rows[1] if len(rows) > 1 else None,
        processing_class=player.tokenizer,
        callbacks=[EarlyStoppingCallback(settings.patience)] if len(rows) > 1 else None,
    )


def _split(
    pairs: Sequence[PreferencePair], share: float, seed: int
) -> tuple[list[PreferencePair], list[PreferencePair]]:
    """(pairs to train on, pairs held out); all pairs of one query are on one side.

    Raises:
        DataError: there are too few queries for both sides.
    """
    if not share:
        return list(pairs), []
    queries = sorted({pair.prompt[-1]["content"] for pair in pairs})
    random.Random(f"preferences {seed}").shuffle(queries)
    apart = set(queries[: max(1, round(share * len(queries)))])
    sides: tuple[list[PreferencePair], list[PreferencePair]] = ([], [])
    for pair in pairs:
        sides[pair.prompt[-1]["content"] in apart].append(pair)
    if not sides[0]:
        raise DataError(
            f"{len(queries)} queries with pairs are too few to hold out {share:.0%} of them",
            "lower dpo.held_out_share, or raise dpo.max_queries",
        )
    return sides


def _accuracies(trainer: LeanDpoTrainer, held_out: int) -> dict[str, Any]:
    """The accuracy on held-out pairs by epoch, and which epoch was kept; nothing without any."""
    if not held_out:
        return {}
    by_epoch = {
        str(round(entry["epoch"], 2)): round(entry["eval_rewards/accuracies"], 4)
        for entry in trainer.state.log_history
        if "eval_rewards/accuracies" in entry
    }
    best = max(by_epoch, key=lambda epoch: (by_epoch[epoch], -float(epoch)))
    return {"held-out pairs": held_out, "held-out accuracy": by_epoch, "epoch kept": best}


def _row(player: RolePlayer, pair: PreferencePair) -> dict[str, object]:
    return {
        "prompt": player.template_messages(pair.prompt),
        "chosen": list(pair.chosen),
        "rejected": list(pair.rejected),
    }


def _tokens(player: RolePlayer, pair: PreferencePair) -> Branches:
    """About the tokens of a pair: the template may add some."""
    replies = [side[-1]["content"] for side in (pair.chosen, pair.rejected)]
    texts = [player.prompt_text(pair.prompt), *(r + player.tokenizer.eos_token for r in replies)]
    return Branches(*player.tokenizer(texts, add_special_tokens=False).input_ids)


@torch.no_grad()
def _next_token_logits(player: RolePlayer, text: str) -> torch.Tensor:
    ids = player.tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
    return player.model(input_ids=ids.to(player.model.device)).logits[0, -1].float().cpu()
