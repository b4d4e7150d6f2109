"""Linear layers whose weights are laid out once for the CPU's matrix kernels, not at every call."""

from typing import Any

import torch
from torch import Tensor, nn


class PackedWeight:
    """The weight (outputs, inputs) of a linear layer, in oneDNN's own layout; for inference.

    What follows the product is done at its end, before anything is rounded.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach())
        self._bias = None if bias is None else bias.detach()

    def product(self, states: Tensor, then: str = "none") -> Tensor:
        """(..., inputs) to (..., outputs); `then` may be "swish", which is SiLU."""
        return torch.ops.mkldnn._linear_pointwise(states, self._weight, self._bias, then, [], "")

    def product_times(self, states: Tensor, factor: Tensor) -> Tensor:
        """The product, times `factor` (..., outputs) element by element."""
        return torch.ops.mkldnn._linear_pointwise.binary(
            states, factor, self._weight, self._bias, "mul"
        )


class PrepackedLinear(nn.Module):
    """A linear layer for inference; it holds its weights in oneDNN's own layout."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self._packed = PackedWeight(linear.weight, linear.bias)

    def forward(self, states: Tensor) -> Tensor:
        """(..., inputs) to (..., outputs)."""
        return self._packed.product(states)


def is_possible(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether weights of the format can be laid out: half precision, on a CPU that has oneDNN."""
    there = hasattr(torch.ops.mkldnn, "_linear_pointwise") and torch.backends.mkldnn.is_available()
    return device.type == "cpu" and dtype == torch.bfloat16 and there


def prepack(model: Any) -> Any:
    """The same model with its linear layers laid out, where that is possible.

    It can neither be trained nor saved any more.
    """
    if not is_possible(model.device, model.dtype):
        return model
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear:
                setattr(parent, name, PrepackedLinear(child))
    return model
