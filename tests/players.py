"""Small role-play models that tests train."""

import torch

from apc_cli.models.adapters import add_lora
from apc_cli.models.playing.role_player import RolePlayer


def adapted(models, kind="chat", rank=4):
    """A two-layer model with an adapter that is the same each time, in float32."""
    torch.manual_seed(0)
    player = RolePlayer.load(str(models / kind), device="cpu", dtype="float32")
    player.model = add_lora(player.model, rank=rank, alpha=rank, task="CAUSAL_LM")
    return player
