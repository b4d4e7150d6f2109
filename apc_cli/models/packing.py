"""Encoders without padding: all texts of a batch lie behind one another in one row of tokens.

DeBERTa-v2/v3 takes the packed attention of `disentangled-flash` (`pip install apc-cli[flash]`);
BERT, RoBERTa and XLM-RoBERTa take the variable-length attention that PyTorch has. Only the first
token of a text is classified, so DeBERTa's last layer goes on with no other past its attention.
"""

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, pairwise
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface

from apc_cli.models.token_batches import Ids, to_device

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


def pack_texts(ids: Sequence[Ids], device: torch.device) -> PackedBatch:
    """Lays texts out; of one length after the other the kernels waste least."""
    lengths = tuple(len(text) for text in ids)
    positions = np.concatenate([np.arange(n, dtype=np.int32) for n in lengths])
    offsets = np.array([0, *accumulate(lengths)], dtype=np.int32)
    return PackedBatch(
        to_device(np.concatenate(ids), device),
        to_device(positions, device),
        to_device(offsets, device),
        lengths,
    )


def packed_classifier(model: Any) -> PackedClassifier | None:
    """A packed reader of the model's weights where its architecture has one here, else None.

    It takes the model over: its own forward is not to be used any more.
    """
    kind = model.config.model_type
    if kind == "deberta-v2" and importlib.util.find_spec("disentangled_flash"):
        return PackedDeberta(model)
    if kind in ("bert", "roberta", "xlm-roberta") and not model.config.is_decoder:
        return PackedBert(model)
    return None


class PackedDeberta:
    """DeBERTa-v2/v3 over `disentangled-flash`, its pointwise parts fused."""

    def __init__(self, model: Any) -> None:
        from disentangled_flash import optimize_deberta  # noqa: PLC0415 - an optional extra

        backbone = model.deberta
        on_gpu = backbone.device.type == "cuda"
        optimize_deberta(backbone, backend="triton" if on_gpu else "torch")
        self._model, self._encoder = model, backbone.encoder
        self._after: Callable[..., Tensor]
        layer = self._encoder.layer[0]
        self._after = partial(
            _after_attention,
            eps=layer.output.LayerNorm.eps,
            activation=layer.intermediate.intermediate_act_fn,
        )
        if on_gpu:  # one graph for all layers and sizes
            self._after = torch.compile(self._after, dynamic=True)

    def logits(self, batch: PackedBatch) -> Tensor:
        states = self._first_tokens(self._embed(batch), batch)
        return self._model.classifier(self._model.pooler(states[:, None]))

    def _embed(self, batch: PackedBatch) -> Tensor:
        row = batch.input_ids[None]
        embedded = self._model.deberta.embeddings(
            input_ids=row,
            token_type_ids=torch.zeros_like(row),
            position_ids=batch.positions[None],
            mask=torch.ones_like(row),
        )
        return embedded[0]

    def _first_tokens(self, states: Tensor, batch: PackedBatch) -> Tensor:
        """(texts, width): the last layer's states of each text's first token."""
        from disentangled_flash import PackedSequenceInfo  # noqa: PLC0415 - an optional extra

        boundaries = tuple(accumulate(batch.lengths, initial=0))
        info = PackedSequenceInfo(boundaries, batch.lengths, max(batch.lengths))
        starts = batch.offsets[:-1].long()
        if self._encoder.conv is not None:  # its second layer reads a convolution of the first
            out = self._encoder.forward_packed(
                states, batch.offsets, output_hidden_states=False, packed_info=info
            )
            return out.last_hidden_state[starts]
        relative = self._encoder.get_rel_embedding()
        last = len(self._encoder.layer) - 1
        for index, layer in enumerate(self._encoder.layer):
            attended, _ = layer.attention.self.forward_packed(
                states, batch.offsets, rel_embeddings=relative, packed_info=info
            )
            if index == last:
                attended, states = attended[starts], states[starts]
            states = self._after(attended, states, *_weights(layer))
        return states


def _weights(layer: nn.Module) -> tuple[Tensor, ...]:
    """What `_after_attention` takes of a layer."""
    attention, wide, narrow = layer.attention.output, layer.intermediate, layer.output
    modules = (attention.dense, attention.LayerNorm, wide.dense, narrow.dense, narrow.LayerNorm)
    return tuple(tensor for module in modules for tensor in (module.weight, module.bias))


def _after_attention(
    attended: Tensor, states: Tensor,
    w_out: Tensor, b_out: Tensor, norm1: Tensor, shift1: Tensor,
    w_wide: Tensor, b_wide: Tensor, w_narrow: Tensor, b_narrow: Tensor,
    norm2: Tensor, shift2: Tensor,
    *, eps: float, activation: Callable[[Tensor], Tensor],
) -> Tensor:  # fmt: skip
    """A transformer layer behind its attention: projection, feed-forward, both normed residuals."""
    mixed = F.linear(attended, w_out, b_out) + states
    middle = F.layer_norm(mixed, norm1.shape, norm1, shift1, eps)
    inner = activation(F.linear(middle, w_wide, b_wide))
    return F.layer_norm(
        F.linear(inner, w_narrow, b_narrow) + middle, norm2.shape, norm2, shift2, eps
    )


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
    parts = [
        F.scaled_dot_product_attention(*(t[:, :, start:end] for t in (query, key, value)))
        for start, end in pairwise(accumulate(packed.lengths, initial=0))
    ]
    return torch.cat(parts, dim=2).transpose(1, 2), None
