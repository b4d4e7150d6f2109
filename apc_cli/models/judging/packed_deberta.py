"""DeBERTa-v2/v3 classifiers over packed texts."""

import importlib.util
from collections.abc import Callable
from itertools import pairwise
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position

from apc_cli.models.judging.packing import PackedBatch

_REACH = 576
"""Distances that tables have on either side: a text has 512 tokens, and a tile looks past it."""


def can_read(config: Any) -> bool:
    """Whether the configuration is one of DeBERTa-v3's kind, which is all that is done here."""
    return bool(
        config.relative_attention
        and set(config.pos_att_type) == {"c2p", "p2c"}
        and config.share_att_key
        and not getattr(config, "conv_kernel_size", 0)
        and config.hidden_act == "gelu"
    )


_ENTERING = Lock()


def one_at_a_time(compiled: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The same for several threads: PyTorch refuses a call while another is compiling."""

    def enter(*args: Any) -> Tensor:
        with _ENTERING:
            return compiled(*args)

    return enter


class PackedDeberta:
    """A DeBERTa-v3 classifier without padding, its steps between matrix products fused on a GPU."""

    def __init__(self, model: Any) -> None:
        self._model, config, encoder = model, model.config, model.deberta.encoder
        self._heads = config.num_attention_heads
        with torch.no_grad():
            relative = encoder.get_rel_embedding()
            by_distance = relative[_slots(encoder, relative.shape[0]).to(model.device)]
            self._layers = [_prepared(layer, by_distance) for layer in encoder.layer]
        self._epsilon = config.layer_norm_eps
        self._normed: Callable[..., Tensor] = _biased_norm
        on_gpu = model.device.type == "cuda" and importlib.util.find_spec("triton")
        self._attend: Callable[..., Tensor] = _attend_each
        self._widen: Callable[..., Tensor] = _widen
        if on_gpu:
            from apc_cli.models.judging.deberta_kernel import attend  # noqa: PLC0415 - needs Triton

            self._attend, self._widen = attend, _widen_fused
            self._normed = one_at_a_time(torch.compile(_biased_norm, dynamic=True))

    def logits(self, batch: PackedBatch) -> Tensor:
        states = self._embed(batch)
        starts, longest = batch.offsets[:-1].long(), max(batch.lengths)
        for layer in self._layers:
            last = layer is self._layers[-1]  # where only each text's first token is classified
            qkv = F.linear(states, *layer["qkv"])
            wanted = 1 if last else longest
            attended = self._attend(qkv, *layer["distances"], batch.offsets, wanted, self._heads)
            if last:
                attended, states = attended[starts], states[starts]
            states = self._added(states, attended, *layer["out"], *layer["norm"])
            wide = self._widen(states, *layer["wide"])
            states = self._added(states, wide, *layer["narrow"], *layer["last norm"])
        return self._model.classifier(self._model.pooler(states[:, None]))

    def _added(
        self, states: Tensor, own: Tensor, weight: Tensor, bias: Tensor, *norm: Tensor
    ) -> Tensor:
        """The norm of `states`, which it overwrites, and a linear layer's output together.

        The product adds to what is there; writing it first would cost as much memory traffic again.
        """
        return self._normed(states.addmm_(own, weight.t()), bias, *norm, self._epsilon)

    def _embed(self, batch: PackedBatch) -> Tensor:
        return self._model.deberta.embeddings(
            input_ids=batch.input_ids[None], position_ids=batch.positions[None]
        )[0]


def _prepared(layer: nn.Module, by_distance: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """A layer's weights and biases, with one matrix for queries, keys and values.

    Its "distances" are keys and queries (heads, 2 * _REACH, size) of the distances from -_REACH on.
    """
    own, after = layer.attention.self, layer.attention.output
    three = (own.query_proj, own.key_proj, own.value_proj)
    pairs = {
        "out": after.dense, "norm": after.LayerNorm, "wide": layer.intermediate.dense,
        "narrow": layer.output.dense, "last norm": layer.output.LayerNorm,
    }  # fmt: skip
    keys, queries = (
        projection(by_distance).unflatten(1, (own.num_attention_heads, -1)).transpose(0, 1)
        for projection in (own.key_proj, own.query_proj)
    )
    return {name: (module.weight, module.bias) for name, module in pairs.items()} | {
        "qkv": (torch.cat([m.weight for m in three]), torch.cat([m.bias for m in three])),
        "distances": (keys.contiguous(), queries.contiguous()),
    }


def _slots(encoder: Any, count: int) -> Tensor:
    """The row of the relative embeddings for each distance from -_REACH to _REACH - 1."""
    distance = torch.arange(-_REACH, _REACH)
    if encoder.position_buckets > 0:
        distance = make_log_bucket_position(
            distance, encoder.position_buckets, encoder.max_relative_positions
        ).long()
    return (distance + count // 2).clamp(0, count - 1)


def _attend_each(
    qkv: Tensor, keys: Tensor, queries: Tensor, offsets: Tensor, wanted: int, heads: int
) -> Tensor:
    """What `deberta_kernel.attend` computes, one text at a time, on any device; all rows of it."""
    width = qkv.shape[1] // 3
    size, reach = width // heads, keys.shape[1] // 2
    parts = []
    for start, end in pairwise(offsets.tolist()):
        query, key, value = (
            part.unflatten(1, (heads, size)).transpose(0, 1)
            for part in qkv[start:end].split(width, dim=1)
        )
        place = torch.arange(end - start, device=qkv.device)
        distance = (place[:, None] - place[None, :] + reach).expand(heads, -1, -1)
        score = query @ key.transpose(1, 2)
        score = score + (query @ keys.transpose(1, 2)).gather(2, distance)
        mirrored = (key @ queries.transpose(1, 2)).gather(2, distance.transpose(1, 2))
        score = (score + mirrored.transpose(1, 2)) / (3 * size) ** 0.5
        mixed = score.softmax(-1) @ value
        parts.append(mixed.transpose(0, 1).reshape(end - start, width))
    return torch.cat(parts)


def _biased_norm(
    states: Tensor, bias: Tensor, weight: Tensor, shift: Tensor, epsilon: float
) -> Tensor:
    return F.layer_norm(states + bias, weight.shape, weight, shift, epsilon)


def _widen(states: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.gelu(F.linear(states, weight, bias))


def _widen_fused(states: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """GELU at the end of the matrix product, in its tanh form: the GPU's library has no other."""
    return torch._addmm_activation(bias, states, weight.t(), use_gelu=True)
