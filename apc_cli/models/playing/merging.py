"""A LoRA adapter and its base model become one plain model that needs no peft."""

import copy
from pathlib import Path
from typing import Any

import torch

from apc_cli.config import Policy
from apc_cli.errors import ApcError
from apc_cli.models.playing.role_player import RolePlayer
from apc_cli.records import Message

_TOLERANCE = {torch.float32: 1e-3, torch.float16: 0.02, torch.bfloat16: 0.1}
"""How far rounding weights to this type may move next-token probabilities (total variation)."""


def merge(player: RolePlayer, probe: list[Message]) -> float:
    """Merges the player's adapter into its base model, in place.

    Returns:
        How far merging moved the next-token probabilities: their total variation distance, 0 to 1,
        averaged over the tokens of `probe`.

    Raises:
        ApcError: merging changed what the model says by more than rounding.
    """
    before = _next_tokens(player, probe)
    player.model = player.model.merge_and_unload(safe_merge=True)
    distance = float((_next_tokens(player, probe) - before).abs().sum(-1).mean() / 2)
    if not distance <= _TOLERANCE[player.model.dtype]:
        raise ApcError(
            f"merging moved next-token probabilities by {distance:.1%}",
            "export with --dtype float32",
        )
    return distance


def save_merged(player: RolePlayer, directory: Path, policy: Policy) -> None:
    """Writes weights, tokenizer, chat template, and the configured sampling as the default one."""
    player.model.generation_config = _sampling(player.model, policy)
    player.model.save_pretrained(directory)
    player.tokenizer.save_pretrained(directory)


def _sampling(model: Any, policy: Policy) -> Any:
    config = copy.deepcopy(model.generation_config)
    config.update(
        do_sample=True,
        temperature=policy.temperature,
        top_p=policy.top_p,
        top_k=0,
        min_p=policy.min_p or None,
        repetition_penalty=policy.repetition_penalty,
        max_new_tokens=policy.max_new_tokens,
    )
    return config


@torch.no_grad()
def _next_tokens(player: RolePlayer, conversation: list[Message]) -> torch.Tensor:
    """Probabilities (tokens, vocabulary) of what follows each token of the conversation."""
    text = player.prompt_text(conversation)
    ids = player.tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
    return player.model(input_ids=ids.to(player.model.device)).logits[0].float().softmax(-1).cpu()
