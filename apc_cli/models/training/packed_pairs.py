"""Preference pairs one behind the other in one row of tokens, without padding or masks.

    prompt chosen rejected | prompt chosen rejected | ...

The tokens of prompt + chosen see each other as ever; those of the rejected reply see the prompt and
themselves. Both are sequences of queries over sequences of keys, so that a variable-length causal
kernel does all pairs of a batch at once; only the prompt's keys and values are read twice.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface

_ATTENTION = "apc_pairs"


@dataclass(frozen=True)
class Branches:
    """Two continuations of a prefix: token ids."""

    prefix: list[int]
    one: list[int]
    other: list[int]

    @property
    def size(self) -> int:
        """How many tokens there are in all."""
        return len(self.prefix) + len(self.one) + len(self.other)


@dataclass(frozen=True)
class PackedPairs:
    """Pairs in one row.

    Attributes:
        input_ids: (tokens,) token ids.
        positions: (tokens,) place of each token within prompt + reply.
        keys: (keys,) for each sequence, where its keys lie among the tokens.
        own: (tokens,) where each token lies among the keys; a prompt's, that of the chosen reply.
        again: (shared,) where the prompts lie among the keys of the rejected replies.
        shared: (shared,) where the same tokens lie among the tokens.
        query_offsets: int32 (sequences + 1,) where each sequence's queries start, and the end.
        key_offsets: int32 (sequences + 1,) the same for its keys.
        lengths: (queries, keys) of each sequence.
    """

    input_ids: Tensor
    positions: Tensor
    keys: Tensor
    own: Tensor
    again: Tensor
    shared: Tensor
    query_offsets: Tensor
    key_offsets: Tensor
    lengths: tuple[tuple[int, int], ...]


def pack(pairs: Sequence[Branches], device: torch.device) -> PackedPairs:
    """Lays pairs out."""
    ids: list[int] = []
    positions: list[int] = []
    keys: list[int] = []
    own: list[int] = []
    again: list[int] = []
    shared_tokens: list[int] = []
    lengths: list[tuple[int, int]] = []
    for pair in pairs:
        start, shared = len(ids), len(pair.prefix)
        first, second = shared + len(pair.one), len(pair.other)
        ids += pair.prefix + pair.one + pair.other
        positions += [*range(first), *range(shared, shared + second)]
        place = len(keys)
        keys += range(start, start + first)
        keys += [*range(start, start + shared), *range(start + first, len(ids))]
        own += [*range(place, place + first), *range(place + first + shared, len(keys))]
        again += range(place + first, place + first + shared)
        shared_tokens += range(start, start + shared)
        lengths += [(first, first), (second, shared + second)]
    offsets = [[0, *accumulate(side)] for side in zip(*lengths, strict=True)]
    query_offsets, key_offsets = torch.tensor(offsets, dtype=torch.int32).to(device)
    lists = (ids, positions, keys, own, again, shared_tokens)
    tensors = (
        torch.tensor([x for one in lists for x in one]).to(device).split([len(x) for x in lists])
    )
    return PackedPairs(*tensors, query_offsets, key_offsets, tuple(lengths))


def fits(model: Any) -> bool:
    """Whether a kernel is there for the model, which makes this the faster layout."""
    config = model.config.get_text_config()
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    half = model.dtype in (torch.float16, torch.bfloat16)
    return model.device.type == "cuda" and half and width <= 256 and width % 8 == 0


@contextmanager
def attending(model: Any) -> Iterator[None]:
    """The model attends within packed pairs, which its passes must be given, while it is open."""
    AttentionInterface.register(_ATTENTION, _attend)
    config = model.config.get_text_config()
    before, config._attn_implementation = config._attn_implementation, _ATTENTION
    try:
        yield
    finally:
        config._attn_implementation = before


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    *,
    pairs: PackedPairs,
    scaling: float,
    **_: Any,
) -> tuple[Tensor, None]:
    """(1, heads, tokens, width) in, (1, tokens, heads, width) out."""
    q, k, v = (tensor.squeeze(0).transpose(0, 1) for tensor in (query, key, value))
    k, v = (_Twice.apply(tensor, pairs) for tensor in (k, v))
    groups = q.shape[1] // k.shape[1]
    if groups > 1:
        k, v = (tensor.repeat_interleave(groups, dim=1) for tensor in (k, v))
    if q.is_cuda and q.dtype in (torch.float16, torch.bfloat16):
        from torch.nn.attention.varlen import varlen_attn  # noqa: PLC0415 - CUDA only

        most = [max(side) for side in zip(*pairs.lengths, strict=True)]
        offsets = (pairs.query_offsets, pairs.key_offsets)
        out = varlen_attn(q, k, v, *offsets, *most, scale=scaling, window_size=(-1, 0))
        return out[None], None
    return _one_by_one(q, k, v, pairs, scaling)[None], None


class _Twice(torch.autograd.Function):
    """Keys or values for each sequence, the prompts' twice; no atomic additions on the way back."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, pairs: PackedPairs) -> Tensor:
        ctx.pairs = pairs
        return tokens.index_select(0, pairs.keys)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        pairs = ctx.pairs
        found = gradient.index_select(0, pairs.own)
        both = found.index_select(0, pairs.shared) + gradient.index_select(0, pairs.again)
        return found.index_copy_(0, pairs.shared, both), None


def _one_by_one(q: Tensor, k: Tensor, v: Tensor, pairs: PackedPairs, scaling: float) -> Tensor:
    """The same without a kernel for it."""
    parts = []
    spans = (pairwise(o.tolist()) for o in (pairs.query_offsets, pairs.key_offsets))
    for (start, end), (first, last) in zip(*spans, strict=True):
        queries, keys = end - start, last - first
        seen = torch.ones(queries, keys, dtype=torch.bool, device=q.device).tril(keys - queries)
        one, *rest = q[start:end], k[first:last], v[first:last]
        heads = [tensor.transpose(0, 1)[None] for tensor in (one, *rest)]
        made = F.scaled_dot_product_attention(*heads, attn_mask=seen, scale=scaling)
        parts.append(made[0].transpose(0, 1))
    return torch.cat(parts)
