"""DeBERTa-v2/v3 classifiers over packed texts."""

import importlib.util
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position

from apc_cli.models.packing import PackedBatch

_REACH = 4096
"""Distances that the table of slots has on either side."""


def can_read(config: Any) -> bool:
    """Whether the configuration is one of DeBERTa-v3's kind, which is all that is done here."""
    return bool(
        config.relative_attention
        and set(config.pos_att_type) == {"c2p", "p2c"}
        and config.share_att_key
        and not getattr(config, "conv_kernel_size", 0)
        and config.hidden_act == "gelu"
    )


class PackedDeberta:
    """A DeBERTa-v3 classifier without padding, its steps between matrix products fused on a GPU."""

    def __init__(self, model: Any) -> None:
        self._model, config, encoder = model, model.config, model.deberta.encoder
        self._heads = config.num_attention_heads
        with torch.no_grad():
            relative = encoder.get_rel_embedding()
            self._layers = [_prepared(layer, relative) for layer in encoder.layer]
        self._slots = _slots(encoder, relative.shape[0]).to(model.device)
        self._epsilon = config.layer_norm_eps
        self._normed: Callable[..., Tensor] = _add_and_norm
        on_gpu = model.device.type == "cuda" and importlib.util.find_spec("triton")
        self._attend: Callable[..., Tensor] = _attend_each
        self._widen: Callable[..., Tensor] = _widen
        if on_gpu:
            from apc_cli.models.deberta_kernel import attend  # noqa: PLC0415 - needs Triton

            self._attend, self._widen = attend, _widen_fused
            self._normed = torch.compile(_add_and_norm, dynamic=True)

    def logits(self, batch: PackedBatch) -> Tensor:
        states = self._embed(batch)
        starts = batch.offsets[:-1].long()
        for number, layer in enumerate(self._layers, start=1):
            qkv = F.linear(states, *layer["qkv"])
            attended = self._attend(
                qkv, *layer["positions"], self._slots, batch.offsets, max(batch.lengths),
                self._heads,
            )  # fmt: skip
            if number == len(self._layers):  # only each text's first token is classified
                attended, states = attended[starts], states[starts]
            mixed = F.linear(attended, *layer["out"])
            middle = self._normed(mixed, states, *layer["norm"], self._epsilon)
            wide = self._widen(middle, *layer["wide"])
            narrow = F.linear(wide, *layer["narrow"])
            states = self._normed(narrow, middle, *layer["last norm"], self._epsilon)
        return self._model.classifier(self._model.pooler(states[:, None]))

    def _embed(self, batch: PackedBatch) -> Tensor:
        row = batch.input_ids[None]
        return self._model.deberta.embeddings(
            input_ids=row,
            token_type_ids=torch.zeros_like(row),
            position_ids=batch.positions[None],
            mask=torch.ones_like(row),
        )[0]


def _prepared(layer: nn.Module, relative: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """A layer's weights and biases, with one matrix for queries, keys and values."""
    own, after = layer.attention.self, layer.attention.output
    three = (own.query_proj, own.key_proj, own.value_proj)
    pairs = {
        "out": after.dense, "norm": after.LayerNorm, "wide": layer.intermediate.dense,
        "narrow": layer.output.dense, "last norm": layer.output.LayerNorm,
    }  # fmt: skip
    return {name: (module.weight, module.bias) for name, module in pairs.items()} | {
        "qkv": (torch.cat([m.weight for m in three]), torch.cat([m.bias for m in three])),
        "positions": (own.key_proj(relative).contiguous(), own.query_proj(relative).contiguous()),
    }


def _slots(encoder: Any, count: int) -> Tensor:
    """int32: the row of the relative embeddings for distance d, at d + _REACH."""
    distance = torch.arange(-_REACH, _REACH)
    if encoder.position_buckets > 0:
        distance = make_log_bucket_position(
            distance, encoder.position_buckets, encoder.max_relative_positions
        ).long()
    return (distance + count // 2).clamp(0, count - 1).int()


def _attend_each(
    qkv: Tensor, keys: Tensor, queries: Tensor, slots: Tensor, offsets: Tensor,
    longest: int, heads: int,
) -> Tensor:  # fmt: skip
    """What `deberta_kernel.attend` computes, one text at a time, on any device."""
    width = qkv.shape[1] // 3
    size = width // heads

    def by_head(rows: Tensor) -> Tensor:
        return rows.view(len(rows), heads, size).transpose(0, 1)

    far_keys, far_queries = by_head(keys), by_head(queries)
    parts = []
    for start, end in pairwise(offsets.tolist()):
        query, key, value = (by_head(part) for part in qkv[start:end].split(width, dim=1))
        place = torch.arange(end - start, device=qkv.device)
        slot = slots[place[:, None] - place[None, :] + len(slots) // 2].long()
        slot = slot.expand(heads, -1, -1)
        score = query @ key.transpose(1, 2)
        score = score + (query @ far_keys.transpose(1, 2)).gather(2, slot)
        mirrored = (key @ far_queries.transpose(1, 2)).gather(2, slot.transpose(1, 2))
        score = (score + mirrored.transpose(1, 2)) / (3 * size) ** 0.5
        mixed = score.softmax(-1) @ value
        parts.append(mixed.transpose(0, 1).reshape(end - start, width))
    return torch.cat(parts)


def _add_and_norm(
    added: Tensor, states: Tensor, weight: Tensor, bias: Tensor, epsilon: float
) -> Tensor:
    return F.layer_norm(added + states, weight.shape, weight, bias, epsilon)


def _widen(states: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.gelu(F.linear(states, weight, bias))


def _widen_fused(states: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """GELU at the end of the matrix product, in its tanh form: the GPU's library has no other."""
    return torch._addmm_activation(bias, states, weight.t(), use_gelu=True)
