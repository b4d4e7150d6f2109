"""Adapted or 4-bit linear layers as plain ones, for as long as replies are sampled.

An adapter triples the kernels of a linear layer, and a 4-bit weight is unpacked for each token. The
plain layers are copies: the model's own weights are never touched, so nothing has to be undone.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.lora.layer import LoraLayer
from peft.utils.integrations import dequantize_module_weight
from torch import nn

Replaced = list[tuple[nn.Module, str, nn.Module]]
"""(parent, attribute, layer) of each layer that a plain one could stand in for."""


def replaceable(model: nn.Module) -> Replaced:
    """The outermost linear layers with a LoRA adapter or 4-bit weights."""
    found: Replaced = []
    for parent in model.modules():
        if isinstance(parent, LoraLayer):
            continue
        for name, child in parent.named_children():
            if _is_adapted(child) or _is_packed(child):
                found.append((parent, name, child))
    return found


def copied_bytes(layers: Replaced, dtype: torch.dtype) -> int:
    """What the plain copies take."""
    return sum(layer.in_features * layer.out_features for _, _, layer in layers) * dtype.itemsize


@contextmanager
def merged(layers: Replaced, dtype: torch.dtype) -> Iterator[None]:
    """Puts plain layers with the adapters' changes added in the layers' places, then back."""
    try:
        for parent, name, layer in layers:
            setattr(parent, name, _plain(layer, dtype))
        yield
    finally:
        for parent, name, layer in layers:
            setattr(parent, name, layer)


def _is_adapted(layer: nn.Module) -> bool:
    if not isinstance(layer, LoraLayer) or not isinstance(layer.get_base_layer(), nn.Linear):
        return False
    special = [*layer.use_dora.values(), *layer.lora_bias.values()]
    return not layer.merged and not any(special)


def _is_packed(layer: nn.Module) -> bool:
    return type(layer).__name__ == "Linear4bit" and not isinstance(layer, LoraLayer)


@torch.no_grad()
def _plain(layer: Any, dtype: torch.dtype) -> nn.Linear:
    base = layer.get_base_layer() if isinstance(layer, LoraLayer) else layer
    weight = dequantize_module_weight(base)
    if isinstance(layer, LoraLayer) and not layer.disable_adapters:
        changes = [layer.get_delta_weight(name).float() for name in layer.active_adapters]
        weight = sum(changes, weight.float())
    plain = nn.Linear(1, 1, bias=False, device="meta")
    plain.in_features, plain.out_features = layer.in_features, layer.out_features
    plain.weight = nn.Parameter(weight.to(dtype), requires_grad=False)
    plain.bias = base.bias
    return plain
