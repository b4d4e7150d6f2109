"""Keys and values of many replies under way, in fixed places that a CUDA graph can read and write.

A prompt's are stored once, however many replies are sampled to it. The model reads them through
transformers' attention interface: `SLOTS` names an implementation that writes a new token's key and
value into the slots and attends over them.
"""

import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from apc_cli.models.playing import cpu_slots
from apc_cli.models.playing.cpu_slots import Readers

SLOTS = "apc_slots"
_FOREIGN = ("softcap", "s_aux", "position_bias")
"""What models may ask of an attention that this one does not do."""
PLAIN_LAYERS = (DynamicLayer, DynamicSlidingWindowLayer)
"""Caches of a key and a value for each token; a window does not matter to what fits into it."""


class UnsupportedModel(Exception):
    """The model attends in a way that the slots do not know."""


@dataclass(frozen=True)
class LayerShape:
    """One layer's key-value heads, the sizes of a key and a value, and how far back it looks."""

    heads: int
    key: int
    value: int
    window: int = sys.maxsize


def layer_shapes(cache: Any) -> list[LayerShape] | None:
    """The shapes of a cache that a forward pass left; None if it is not plain keys and values."""
    layers = getattr(cache, "layers", [])
    if not layers or any(type(layer) not in PLAIN_LAYERS for layer in layers):
        return None
    if any(layer.keys is None or not layer.keys.numel() for layer in layers):
        return None
    return [
        LayerShape(
            layer.keys.shape[1],
            layer.keys.shape[3],
            layer.values.shape[3],
            getattr(layer, "sliding_window", sys.maxsize),
        )  # fmt: skip
        for layer in layers
    ]


def bytes_a_token(shapes: Sequence[LayerShape], dtype: torch.dtype) -> int:
    """What the keys and values of one token take, in all layers."""
    return sum(one.heads * (one.key + one.value) for one in shapes) * dtype.itemsize


class Slots:
    """Keys and values of `prompts` prompts and `replies` replies.

    `prompt` (replies,) says which prompt a reply answers, `starts` how many of its tokens count,
    `written` how many of the reply's are stored, `live` whether the reply is still being written.
    """

    def __init__(
        self,
        shapes: Sequence[LayerShape],
        prompts: int,
        replies: int,
        longest_prompt: int,
        longest_reply: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        def store(rows: int, one: LayerShape, length: int) -> tuple[Tensor, Tensor]:
            made = [
                torch.zeros(rows, one.heads, length, size, dtype=dtype, device=device)
                for size in (one.key, one.value)
            ]
            return made[0], made[1]

        self.prompts = [store(prompts, one, max(1, longest_prompt)) for one in shapes]
        self.replies = [store(replies, one, longest_reply) for one in shapes]
        counts = {"dtype": torch.int32, "device": device}
        self.prompt = torch.zeros(replies, **counts)
        self.starts = torch.zeros(replies, **counts)
        self.written = torch.zeros(replies, **counts)
        self.live = torch.zeros(replies, dtype=torch.bool, device=device)
        self._starts = self._lengths = self.written
        self._readers: Readers | None = None
        kernel = device.type == "cuda" and importlib.util.find_spec("triton")
        self._attend = _kernel() if kernel else attend_plainly

    def keep_prompts(self, places: Tensor, cache: Any) -> None:
        """Copies what the model remembers of prompts, padded on the right, into their places."""
        for (keys, values), layer in zip(self.prompts, cache.layers, strict=True):
            length = layer.keys.shape[2]
            keys[places, :, :length], values[places, :, :length] = layer.keys, layer.values

    def begin_step(self, rows: slice | Tensor) -> None:
        """To be called before the model reads the next token of the replies in `rows`.

        On a CPU it is given those that live; a captured step reads all, and hides what others see.
        """
        if isinstance(rows, Tensor):
            counts = (one[rows] for one in (self.prompt, self.starts, self.written))
            self._readers = cpu_slots.readers(rows, *counts)
        else:
            self._starts, self._lengths = self.starts * self.live, (self.written + 1) * self.live

    def attend(self, index: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Stores each reply's new key and value, and attends; all are (replies, heads, size)."""
        new, prompt, reply = (key, value), self.prompts[index], self.replies[index]
        if self._readers:
            return cpu_slots.attend(query, new, prompt, reply, self._readers, scale)
        counts = self.prompt, self._starts, self._lengths
        return self._attend(query, new, prompt, reply, *counts, scale)


def attend_plainly(
    query: Tensor,
    new: tuple[Tensor, Tensor],
    prompt: tuple[Tensor, Tensor],
    reply: tuple[Tensor, Tensor],
    prompts: Tensor,
    starts: Tensor,
    lengths: Tensor,
    scale: float,
) -> Tensor:
    """The kernel's `attend` in plain PyTorch: every reply reads a copy of its prompt."""
    rows, place = torch.arange(len(query), device=query.device), (lengths - 1).clamp(min=0)
    for store, one in zip(reply, new, strict=True):
        store[rows, :, place] = one
    keys, values = (torch.cat([p[prompts], r], 2) for p, r in zip(prompt, reply, strict=True))
    most_prompt, most_reply = prompt[0].shape[2], reply[0].shape[2]
    said = torch.arange(most_prompt, device=query.device) < starts[:, None]
    added = torch.arange(most_reply, device=query.device) < lengths[:, None]
    mask = torch.cat([said, added], 1)[:, None, None]
    found = torch.nn.functional.scaled_dot_product_attention(
        query[:, :, None], keys, values, attn_mask=mask, scale=scale, enable_gqa=True
    )
    return found[:, :, 0].where((lengths > 0)[:, None, None], 0)  # done: it attends to nothing


def _kernel() -> Any:
    from apc_cli.models.playing.decode_kernel import attend  # noqa: PLC0415 - needs Triton

    return attend


@contextmanager
def reading_slots(model: Any) -> Iterator[None]:
    """The model attends over the `slots` that its forward is given."""
    before = model.config._attn_implementation
    AttentionInterface.register(SLOTS, _slots_attention)
    model.set_attn_implementation(SLOTS)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def _slots_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    slots: Slots | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """One new token a reply: query (replies, heads, 1, size), key and value likewise."""
    foreign = [name for name in _FOREIGN if options.get(name) is not None]
    if slots is None or foreign:
        raise UnsupportedModel(f"attention with {', '.join(foreign) or 'no slots'}")
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    found = slots.attend(module.layer_idx, query[:, :, 0], key[:, :, 0], value[:, :, 0], scale)
    return found[:, None], None
