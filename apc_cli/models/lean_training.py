"""Training passes that compute only what the loss looks at.

trl runs prompt + chosen and prompt + rejected as two rows, and on a CPU it applies the output head
to the prompts too. Here a pair is one row, whose two replies branch off the prompt, and the output
head sees the replies alone. Losses and gradients are those of trl up to rounding.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers.modeling_outputs import BaseModelOutput

from apc_cli.models.branching import pack

_TOLERANCE = 0.05
"""Relative difference allowed between two ways to the same hidden states; rounding stays below."""


@contextmanager
def lean(trainer: Any, *, pairs: bool) -> Iterator[None]:
    """Makes the passes of an SFTTrainer, or with `pairs` of a DPOTrainer, lean while it is open."""
    model = trainer.model.get_base_model()
    passes = _LeanPasses(model, branch_pairs=pairs and _branches(model))
    model.forward, model.base_model.forward = passes.of_model, passes.of_backbone
    try:
        yield
    finally:
        model.forward, model.base_model.forward = passes.plain_model, passes.plain_backbone


class _LeanPasses:
    """Stands in for the forward passes of a model that has trl's fused head, and its backbone's."""

    def __init__(self, model: Any, *, branch_pairs: bool) -> None:
        self.plain_model, self.plain_backbone = model.forward, model.base_model.forward
        self.branch_pairs = branch_pairs
        self.kept: slice | None = None

    def of_model(self, *args: Any, labels: Tensor | None = None, **options: Any) -> Any:
        """As the fused head's forward: per-token figures of shape (rows, tokens - 1)."""
        if labels is None or not options.get("fused_lm_head"):
            return self.plain_model(*args, labels=labels, **options)
        targets = labels[:, 1:]
        first = int((targets >= 0).any(0).float().argmax())
        self.kept = slice(first, -1)
        try:
            outputs = self.plain_model(*args, shift_labels=targets[:, first:], **options)
        finally:
            self.kept = None
        for name, value in list(outputs.items()):
            if isinstance(value, Tensor) and value.ndim == 2:
                outputs[name] = pad(value, (first, 0))
        return outputs

    def of_backbone(self, *args: Any, **options: Any) -> Any:
        """The hidden states that predict the tokens from the first labelled one on."""
        if self.kept is None:
            return self.plain_backbone(*args, **options)
        ids, mask = options.get("input_ids"), options.get("attention_mask")
        if self.branch_pairs and ids is not None and mask is not None:
            return BaseModelOutput(_pair_states(self.plain_backbone, ids, mask, self.kept))
        outputs = self.plain_backbone(*args, **options)
        outputs.last_hidden_state = outputs.last_hidden_state[:, self.kept]
        return outputs


def _pair_states(backbone: Any, ids: Tensor, mask: Tensor, kept: slice) -> Tensor:
    """Hidden states (rows, kept, width); rows are all chosen, then all rejected, padded right."""
    rows = [row[:length].tolist() for row, length in zip(ids, mask.sum(1).tolist(), strict=True)]
    half = len(rows) // 2
    groups, places = [], torch.zeros_like(ids)
    for pair, (one, other) in enumerate(zip(rows[:half], rows[half:], strict=True)):
        shared = _shared_tokens(one, other)
        groups.append((one[:shared], [one[shared:], other[shared:]]))
        own = range(len(one), len(one) + len(other) - shared)
        places[pair, : len(one)] = torch.arange(len(one))
        places[half + pair, : len(other)] = torch.tensor([*range(shared), *own])
    batch = pack(groups, 0, ids.device)
    states = backbone(
        input_ids=batch.input_ids,
        attention_mask=batch.allowed,
        position_ids=batch.position_ids,
        use_cache=False,
    ).last_hidden_state
    pair_of_row = torch.arange(half, device=ids.device).repeat(2)
    return states[pair_of_row[:, None], places[:, kept]]


def _shared_tokens(one: list[int], other: list[int]) -> int:
    """How many tokens both begin with, short of either's last one."""
    most = min(len(one), len(other)) - 1
    return next((i for i in range(most) if one[i] != other[i]), most)


@torch.no_grad()
def _branches(model: Any) -> bool:
    """Whether the backbone reads branches of a shared prefix as it reads them apart."""
    config = model.config.get_text_config()
    kinds = getattr(config, "layer_types", None) or []
    if config._attn_implementation != "sdpa" or any(kind != "full_attention" for kind in kinds):
        return False
    if (not kinds and getattr(config, "sliding_window", None)) or _routes(config):
        return False
    ids = torch.arange(2, 26, device=model.device).repeat(2, 1) % config.vocab_size
    ids[1, 16:] = ids[0, 16:].flip(0)
    mask = torch.ones_like(ids)
    apart = model.base_model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    try:
        together = _pair_states(model.base_model, ids, mask, slice(None))
    except (TypeError, ValueError, RuntimeError):  # no position_ids, or no masks of our own
        return False
    apart, together = apart[1, 16:], together[1, 16:]  # the second branch: all may go wrong there
    return bool((apart - together).norm() < _TOLERANCE * apart.norm())


def _routes(config: Any) -> bool:
    """Whether it is a mixture of experts, whose loss needs more than hidden states."""
    return hasattr(config, "output_router_logits")
