"""Linear layers whose weights are laid out once for the CPU's matrix kernels, not at every call."""

from typing import Any

import torch
from torch import Tensor, nn


class PrepackedLinear(nn.Module):
    """A linear layer for inference; it holds its weights in oneDNN's own layout."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self._weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())
        self._bias = None if linear.bias is None else linear.bias.detach()

    def forward(self, states: Tensor) -> Tensor:
        """(..., inputs) to (..., outputs)."""
        return torch.ops.mkldnn._linear_pointwise(states, self._weight, self._bias, "none", [], "")


def prepack(model: Any) -> Any:
    """The same model with its half-precision linear layers laid out, on a CPU that has oneDNN.

    It can neither be trained nor saved any more.
    """
    there = hasattr(torch.ops.mkldnn, "_linear_pointwise") and torch.backends.mkldnn.is_available()
    if model.device.type != "cpu" or model.dtype != torch.bfloat16 or not there:
        return model
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear:
                setattr(parent, name, PrepackedLinear(child))
    return model
