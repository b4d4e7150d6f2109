"""How many rows a training pass reads, and whether it keeps what the backward pass needs.

On a GPU one pass over the longest row is measured, kept and recomputed; what it takes decides which
is the fastest way that fits. A row is a preference pair, or a dialogue.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import torch

from apc_cli.models.memory import free_bytes, release
from apc_cli.models.playing.sharding import is_sharded

_HEAD_BYTES = 2**30
"""What the output head takes in tiles, whatever the number of rows."""
_KERNELS = 4.0
"""Rows that take a GPU as long as the CPU takes to start a pass over any number of them."""
_SHARE = 0.92
"""Of the memory that is free; the rest is lost between the pieces of the allocator."""


@dataclass(frozen=True)
class Plan:
    """`rows` in one pass of a process; `recompute` is gradient checkpointing."""

    rows: int
    recompute: bool = False

    def __str__(self) -> str:
        how = ", activations recomputed" if self.recompute else ""
        return f"{self.rows} at once{how}"


def plans(batch: int, most: int | None) -> list[Plan]:
    """All ways to take `batch` rows in passes of like size, `most` at once, the fastest first.

    Recomputing costs half as much again. A pass takes about as long as four pairs do, however few
    there are in it: so long the CPU needs to start its thousands of kernels.
    """
    sizes = [n for n in range(min(batch, most or batch), 0, -1) if batch % n == 0]
    made = [Plan(rows, recompute) for rows in sizes for recompute in (False, True)]
    return sorted(made, key=lambda p: (3 if p.recompute else 2) * (1 + _KERNELS / p.rows))


def slower(plan: Plan, batch: int, most: int | None) -> Plan | None:
    """The next way that takes less memory; None after the last."""
    ways = plans(batch, most)
    return next((p for p in ways[ways.index(plan) + 1 :] if _memory(p) < _memory(plan)), None)


def _memory(plan: Plan) -> tuple[bool, int]:
    """Orders plans by the memory that they take: recomputing saves more than fewer rows do."""
    return not plan.recompute, plan.rows


def choose(
    model: Any,
    batch: int,
    most: int | None,
    pass_over_longest: Callable[[], None],
) -> Plan:
    """The fastest plan that fits into the GPU's free memory; `pass_over_longest` reads one row.

    A model that is shared out is large, and who ran out of memory would keep the others waiting:
    its activations are recomputed untried.

    Raises:
        OutOfMemoryError: not even one row fits, of a model that is shared out.
    """
    shared_out = is_sharded(model)
    kept = inf if shared_out else row_bytes(model, pass_over_longest, recompute=False)
    recomputed = row_bytes(model, pass_over_longest, recompute=True)
    if shared_out and recomputed == inf:
        raise torch.OutOfMemoryError
    room = _SHARE * free_bytes(model.device) - _HEAD_BYTES - _optimiser_bytes(model)
    return fastest(plans(batch, most), kept, recomputed, room)


def fastest(ways: Sequence[Plan], kept: float, recomputed: float, room: float) -> Plan:
    """The first plan whose rows take no more than `room` bytes; if none does, the smallest."""
    for plan in ways:
        if plan.rows * (recomputed if plan.recompute else kept) <= room:
            return plan
    return min(ways, key=_memory)


def row_bytes(model: Any, one_pass: Callable[[], None], *, recompute: bool) -> float:
    """Bytes that a pass and its backward pass take at most, infinite where they do not fit."""
    base = model.get_base_model()
    model.train()
    try:
        if recompute:
            base.gradient_checkpointing_enable({"use_reentrant": False})
        one_pass()  # compiles kernels, and makes the gradients, which are counted elsewhere
        before = torch.cuda.memory_allocated(model.device)
        torch.cuda.reset_peak_memory_stats(model.device)
        one_pass()
        return float(torch.cuda.max_memory_allocated(model.device) - before)
    except torch.OutOfMemoryError:
        return inf
    finally:
        model.zero_grad()
        base.gradient_checkpointing_disable()
        model.eval()
        release()


def _optimiser_bytes(model: Any) -> int:
    """Gradients, and the two averages of AdamW."""
    weights = [p for p in model.parameters() if p.requires_grad]
    return 3 * sum(p.numel() * p.element_size() for p in weights)
