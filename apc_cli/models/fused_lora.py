"""LoRA layers whose low-rank part is added inside the matrix product.

peft computes y = W x, then B A x, scales it and adds it: four passes over tensors as large as y,
and as many in the backward pass. Here the low-rank product accumulates into y as it is computed,
gradients of the adapter come out in float32, and only x and A x are kept for the backward pass. A
4-bit weight is widened for each product and not kept.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.nn import functional as F

from apc_cli.models.swapping import swapped


@contextmanager
def fused_lora(model: nn.Module) -> Iterator[int]:
    """Fuses what can be fused while it is open; gives the number of such layers."""
    with ExitStack() as stack:
        layers = [module for module in model.modules() if _can_fuse(module)]
        for layer in layers:
            stack.enter_context(swapped(layer, "forward", _FusedForward(layer)))
        yield len(layers)


def _can_fuse(module: nn.Module) -> bool:
    if not isinstance(module, LoraLayer):
        return False
    base = module.get_base_layer()
    plain = type(base) is nn.Linear or hasattr(base.weight, "quant_state")
    return plain and not base.weight.requires_grad


class _FusedForward:
    """Stands in for the forward pass of a LoRA layer."""

    def __init__(self, layer: Any) -> None:
        self._layer, self._plain = layer, layer.forward

    def __call__(self, x: Tensor, *args: Any, **options: Any) -> Tensor:
        adapter = None if args or options else self._only_adapter()
        if adapter is None:
            return self._plain(x, *args, **options)
        layer = self._layer
        return _LoraProduct.apply(
            x, layer.lora_A[adapter].weight, layer.lora_B[adapter].weight,
            layer.get_base_layer(), layer.scaling[adapter],
        )  # fmt: skip

    def _only_adapter(self) -> str | None:
        """The one adapter at work, where it is plain LoRA without dropout or bias."""
        layer = self._layer
        names = [name for name in layer.active_adapters if name in layer.lora_A]
        if layer.disable_adapters or layer.merged or len(names) != 1:
            return None
        [name] = names
        special = (
            name in layer.lora_variant
            or not isinstance(layer.lora_dropout[name], nn.Identity)
            or layer.lora_B[name].bias is not None
        )
        return None if special else name


class _LoraProduct(torch.autograd.Function):
    """W x + b + s B A x over a frozen linear layer; gradients for x, A and B."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, a: Tensor, b: Tensor, base: Any, scale: float) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        y = F.linear(flat, _dense(base, x.dtype), base.bias)
        low = flat @ a.to(x.dtype).t()
        y.addmm_(low, b.to(x.dtype).t(), alpha=scale)
        ctx.save_for_backward(flat, low, a, b)
        ctx.base, ctx.scale = base, scale
        return y.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        flat, low, a, b = ctx.saved_tensors
        shape, dy = dy.shape, dy.reshape(-1, dy.shape[-1])
        d_low = (dy @ b.to(dy.dtype)).mul_(ctx.scale)
        dx = None
        if ctx.needs_input_grad[0]:
            dx = dy @ _dense(ctx.base, dy.dtype)
            dx.addmm_(d_low, a.to(dy.dtype))
            dx = dx.view(*shape[:-1], -1)
        da = _product(d_low.t(), flat, a.dtype)
        db = _product(dy.t(), low, b.dtype).mul_(ctx.scale)
        return dx, da, db, None, None


def _dense(base: Any, dtype: torch.dtype) -> Tensor:
    """The frozen weight, widened where it is kept in 4 bits."""
    state = getattr(base.weight, "quant_state", None)
    if state is None:
        return base.weight
    from bitsandbytes.functional import dequantize_4bit  # noqa: PLC0415 - an optional extra

    return dequantize_4bit(base.weight.data, state).to(dtype)


def _product(one: Tensor, other: Tensor, dtype: torch.dtype) -> Tensor:
    """The matrix product in another format, without rounding between where the device can."""
    if one.is_cuda and one.dtype != dtype == torch.float32:
        return torch.mm(one, other, out_dtype=dtype)
    return (one @ other).to(dtype)
