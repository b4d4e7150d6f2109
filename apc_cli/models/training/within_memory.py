"""Training that fits into a GPU's memory: measured first, and taken up again where it did not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch

from apc_cli.errors import ApcError
from apc_cli.models import memory, ranks
from apc_cli.models.playing.role_player import RolePlayer
from apc_cli.models.playing.sharding import is_sharded
from apc_cli.models.training import training_plans
from apc_cli.models.training.lean_training import lean
from apc_cli.models.training.packed_pairs import Branches
from apc_cli.models.training.trainers import last_checkpoint
from apc_cli.models.training.training_plans import Plan
from apc_cli.progress import Progress

Trained = TypeVar("Trained")
_HINT = (
    "set policy.quantization: nf4, or none and policy.sharding: full; lower "
    "policy.max_prompt_tokens, or use a larger GPU"
)


def train_within_memory(
    player: RolePlayer,
    batch: int,
    most: int | None,
    longest: Branches,
    attempt: Callable[[Plan], Trained],
    checkpoints: Path,
    progress: Progress,
) -> Trained:
    """What `attempt` gives, with the fastest plan for `batch` rows a step that memory allows.

    At most `most` rows are read at once, where that is given. An attempt that runs out of memory is
    followed by one that takes less, from the last checkpoint or from the adapter as it came.

    Raises:
        ApcError: not even one row at once fits.
    """
    batch = ranks.share(batch)
    if player.model.device.type != "cuda":
        return attempt(Plan(min(most or 1, batch), recompute=is_sharded(player.model)))
    start = [
        (p, p.detach().to("cpu", copy=True)) for p in player.model.parameters() if p.requires_grad
    ]
    try:
        plan: Plan | None = _measured(player.model, batch, most, longest)
    except torch.OutOfMemoryError:
        plan = None
    while plan:
        progress.say(f"{batch} rows a step, {plan}")
        try:
            return attempt(plan)
        except torch.OutOfMemoryError:
            if ranks.count() > 1:
                break
        plan = training_plans.slower(plan, batch, most)
        player.model.zero_grad()
        memory.release()
        if last_checkpoint(checkpoints) is None:
            for weight, value in start:
                weight.data.copy_(value)
    raise ApcError("training does not fit into the GPU's memory", _HINT)


def _measured(model: Any, batch: int, most: int | None, longest: Branches) -> Plan:
    half = model.device.type == "cuda"
    with lean(model, pairs=bool(longest.other)) as passes:

        def one_pass() -> None:
            with torch.autocast(model.device.type, torch.bfloat16, enabled=half):
                states = passes.of_pair(longest, model.device)
            states.float().square().mean().backward()

        plan = training_plans.choose(model, batch, most, one_pass)
    return ranks.least(plan, key=lambda one: (not one.recompute, one.rows))
