"""A Llama that classifies trees of tokens, on a CPU that multiplies bfloat16.

Nearly all of the time goes into the products with weights, so the rest is made small: the norms'
weights are part of the matrices behind them, SiLU and the gate are the end of a product, tokens lie
behind one another without padding, and the last layer is computed where branches end. Weights and
what they are multiplied with are bfloat16; the sum over the layers, norms, rotations and attention
are float32: there bfloat16 would lose most and gain little.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from apc_cli.models.branching import BranchedBatch
from apc_cli.models.judging.prepacked import PackedWeight


def can_read(config: Any) -> bool:
    """Whether the configuration is one of Llama's kind without biases."""
    return bool(
        config.model_type == "llama"
        and config.hidden_act == "silu"
        and not config.attention_bias
        and not config.mlp_bias
    )


class _Layer(NamedTuple):
    """The matrices of a layer; those of queries, keys and values are one."""

    qkv: PackedWeight
    out: PackedWeight
    gate: PackedWeight
    up: PackedWeight
    down: PackedWeight


class _Block(NamedTuple):
    """Neighbouring tokens of a tree, with all that any of them sees.

    Attributes:
        asking: which of all tokens they are.
        seen: those that they see.
        hidden: (heads of a group * asking, seen), added to scores: 0, or -inf where none looks.
    """

    asking: slice | Tensor
    seen: Tensor
    hidden: Tensor


_ASKING = 160
"""Tokens of a block at most: one with fewer branches has less to see, but takes as many calls."""


class LeanLlama:
    """A sequence classifier's weights, laid out for trees."""

    def __init__(self, model: Any) -> None:
        """Takes over the layers of transformers' float32 model, which is left without any."""
        config, backbone = model.config, model.model
        self._heads, self._groups = config.num_attention_heads, config.num_key_value_heads
        self._size, self._epsilon = config.head_dim, config.rms_norm_eps
        self._rotary, self._embedding = backbone.rotary_emb, backbone.embed_tokens
        with torch.no_grad():
            self._layers = [self._laid_out(layer) for layer in backbone.layers]
            self._head = model.score.weight * backbone.norm.weight
        backbone.layers = nn.ModuleList()

    def _laid_out(self, layer: Any) -> _Layer:
        """Norms' weights are multiplied into the columns behind them while all is float32."""
        own, wide, size = layer.self_attn, layer.mlp, self._size
        turned = (
            m.weight.unflatten(0, (-1, 2, size // 2)).transpose(1, 2).flatten(0, 2)
            for m in (own.q_proj, own.k_proj)
        )  # the two coordinates that a rotation mixes become neighbours: one complex number
        qkv = torch.cat([*turned, own.v_proj.weight]) * layer.input_layernorm.weight
        norm = layer.post_attention_layernorm.weight
        matrices = (
            qkv, own.o_proj.weight, wide.gate_proj.weight * norm, wide.up_proj.weight * norm,
            wide.down_proj.weight,
        )  # fmt: skip
        return _Layer(*(PackedWeight(matrix.bfloat16()) for matrix in matrices))

    def logits(self, batch: BranchedBatch) -> Tensor:
        """float32 (all branches, labels): those of the first row, then of the second, ..."""
        filled = [slice(length) for length in batch.lengths]
        tokens, positions = (
            torch.cat([row[part] for row, part in zip(rows, filled, strict=True)])
            for rows in (batch.input_ids, batch.position_ids)
        )
        everywhere, at_ends = self._blocks(batch)
        ends = torch.cat([block.asking for block in at_ends])
        states = self._embedding(tokens).float()
        cosine, sine = (x[0, :, : self._size // 2] for x in self._rotary(states, positions[None]))
        turns = torch.complex(cosine, sine)
        for layer in self._layers[:-1]:
            states = self._through(layer, states, turns, everywhere, slice(None))
        states = self._through(self._layers[-1], states, turns, at_ends, ends)
        return F.linear(self._normed(states), self._head)

    def _blocks(self, batch: BranchedBatch) -> tuple[list[_Block], list[_Block]]:
        """All tokens, and the branches' ends alone."""
        everywhere, at_ends = [], []
        for row, (start, end) in enumerate(pairwise([0, *accumulate(batch.lengths)])):
            allowed, ends = batch.allowed[row, 0, :, : end - start], torch.tensor(batch.ends[row])
            at_ends.append(self._block(allowed[ends], ends + start, start))
            step = -(-(end - start) // -(-(end - start) // _ASKING))
            for first in range(start, end, step):
                asking = slice(first, min(first + step, end))
                own = allowed[first - start : asking.stop - start]
                everywhere.append(self._block(own, asking, start))
        return everywhere, at_ends

    def _block(self, allowed: Tensor, asking: slice | Tensor, start: int) -> _Block:
        """`allowed` (asking, tokens of the tree); the tree's first token is number `start`."""
        seen = allowed.any(0).nonzero()[:, 0]
        visible = allowed[:, seen]
        hidden = torch.zeros(visible.shape).masked_fill_(visible.logical_not(), -torch.inf)
        return _Block(asking, seen + start, hidden.repeat(self._heads // self._groups, 1))

    def _through(
        self,
        layer: _Layer,
        states: Tensor,
        turns: Tensor,
        blocks: Sequence[_Block],
        kept: slice | Tensor,
    ) -> Tensor:
        """(tokens, width) through one layer, to (kept tokens, width)."""
        qkv = layer.qkv.product(self._normed(states).bfloat16())
        split = torch.empty((qkv.shape[1] // self._size, len(qkv), self._size))
        split.copy_(qkv.unflatten(1, (-1, self._size)).transpose(0, 1))
        heads, groups = self._heads, self._groups
        pairs = split[: heads + groups].unflatten(2, (-1, 2))
        torch.view_as_complex(pairs).mul_(turns)
        parts = [self._attend(*split.split((heads, groups, groups)), block) for block in blocks]
        mixed = torch.cat(parts) if len(parts) > 1 else parts[0]
        states = states[kept] + layer.out.product(mixed)
        normed = self._normed(states).bfloat16()
        wide = layer.up.product_times(normed, layer.gate.product(normed, "swish"))
        return states.add_(layer.down.product(wide))

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, block: _Block) -> Tensor:
        """What a block's tokens take from what they see: bfloat16 (asking, width)."""
        query = query[:, block.asking].reshape(self._groups, -1, self._size)
        key, value = key[:, block.seen], value[:, block.seen]
        mixed = torch.empty(query.shape)
        for group, into in enumerate(mixed):  # one at a time: its scores stay in the caches
            shown = key[group].T
            score = torch.addmm(block.hidden, query[group], shown, alpha=self._size**-0.5)
            torch.mm(torch.softmax(score, -1), value[group], out=into)
        mixed = mixed.view(self._heads, -1, self._size)
        return mixed.transpose(0, 1).to(torch.bfloat16).flatten(1)

    def _normed(self, states: Tensor) -> Tensor:
        """As `rms_norm`, which squares into memory first."""
        length = torch.linalg.vector_norm(states, dim=-1, keepdim=True)
        square = length.square_().div_(states.shape[-1])
        return states * square.add_(self._epsilon).rsqrt_()
