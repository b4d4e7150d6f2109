"""Encoders without padding: all texts of a batch lie behind one another in one row of tokens.

DeBERTa has a kernel of its own (packed_deberta.py); BERT, RoBERTa and XLM-RoBERTa take the
variable-length attention that PyTorch has.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface

from apc_cli.models.judging import cpu_attention
from apc_cli.models.judging.token_batches import Ids, batches, to_device

_ATTENTION = "apc_packed"


@dataclass(frozen=True)
class PackedBatch:
    """Texts one behind the other.

    Attributes:
        input_ids: (tokens,) token ids.
        positions: (tokens,) place of each token within its text.
        offsets: int32 (texts + 1,) where each text starts, and the end.
        lengths: tokens of each text.
    """

    input_ids: Tensor
    positions: Tensor
    offsets: Tensor
    lengths: tuple[int, ...]


class PackedClassifier(Protocol):
    """A sequence classifier that reads packed batches."""

    def logits(self, batch: PackedBatch) -> Tensor:
        """(texts, labels)."""


def packed_batches(
    ids: Sequence[Ids], budget: int, device: torch.device
) -> Iterator[tuple[list[int], PackedBatch]]:
    """(indices of texts, these texts) within a budget of tokens, the longest texts first.

    Of one length after the other the kernels waste least. All batches go to the device in one
    copy: pinned memory whose copy waits for its turn cannot serve again, and a GPU grants more
    only now and then.
    """
    groups = list(batches([len(one) for one in ids], budget, padded=False))
    lengths = [tuple(len(ids[i]) for i in group) for group in groups]
    tokens = to_device(np.concatenate([ids[i] for group in groups for i in group]), device)
    sizes = np.concatenate(lengths)
    ends = np.cumsum(sizes)
    places = np.arange(ends[-1]) - np.repeat(ends - sizes, sizes)
    positions = to_device(places.astype(np.int32), device)
    bounds = np.zeros((len(groups), max(map(len, groups)) + 1), np.int32)
    for row, group in zip(bounds, lengths, strict=True):
        row[1 : len(group) + 1] = np.cumsum(group)
    offsets, start = to_device(bounds, device), 0
    for group, own, row in zip(groups, lengths, offsets, strict=True):
        end = start + sum(own)
        begins = row[: len(group) + 1].clone()  # aligned: kernels are compiled anew for what is not
        yield group, PackedBatch(tokens[start:end], positions[start:end], begins, own)
        start = end


class PackedBert:
    """BERT, RoBERTa and XLM-RoBERTa over variable-length attention."""

    def __init__(self, model: Any) -> None:
        AttentionInterface.register(_ATTENTION, _attend)
        model.set_attn_implementation(_ATTENTION)
        self._model = model
        roberta = model.config.model_type != "bert"
        self._first_position = model.config.pad_token_id + 1 if roberta else 0
        pooler = getattr(model.base_model, "pooler", None)
        self._pool: Callable[[Tensor], Tensor] = pooler or (lambda states: states)

    def logits(self, batch: PackedBatch) -> Tensor:
        states = self._model.base_model(
            input_ids=batch.input_ids[None],
            position_ids=(batch.positions + self._first_position)[None],
            packed=batch,
        ).last_hidden_state
        first = states[0, batch.offsets[:-1].long()][:, None]
        return self._model.classifier(self._pool(first))


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    *,
    packed: PackedBatch,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention within each text; (1, heads, tokens, width) in, (1, tokens, heads, width) out."""
    if query.is_cuda and query.dtype in (torch.float16, torch.bfloat16):
        from torch.nn.attention.varlen import varlen_attn  # noqa: PLC0415 - CUDA only

        heads = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
        longest = max(packed.lengths)
        out = varlen_attn(*heads, packed.offsets, packed.offsets, longest, longest)
        return out[None], None
    half = query.dtype == torch.bfloat16
    attend = cpu_attention.attend if half else F.scaled_dot_product_attention
    parts, start = [], 0
    for length, run in groupby(packed.lengths):  # texts of one length lie side by side
        end = start + length * len(list(run))
        one, two, three = (
            tensor[0, :, start:end].unflatten(1, (-1, length)).transpose(0, 1)
            for tensor in (query, key, value)
        )
        parts.append(attend(one, two, three).transpose(1, 2).flatten(0, 1))
        start = end
    return torch.cat(parts)[None], None
