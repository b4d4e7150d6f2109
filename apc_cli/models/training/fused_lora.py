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

from apc_cli.models.training.swapping import swapped


@contextmanager
def fused_lora(model: Any) -> Iterator[int]:
    """Fuses what can be fused while it is open; gives the number of such layers."""
    with ExitStack() as stack:
        copies = _Copies()
        hook = model.base_model.register_forward_pre_hook(lambda *_: copies.forget())
        stack.callback(hook.remove)
        layers = [module for module in model.modules() if _can_fuse(module)]
        for layer in layers:
            stack.enter_context(swapped(layer, "forward", _FusedForward(layer, copies)))
        yield len(layers)


def _can_fuse(module: nn.Module) -> bool:
    if not isinstance(module, LoraLayer):
        return False
    base = module.get_base_layer()
    plain = type(base) is nn.Linear or hasattr(base.weight, "quant_state")
    return plain and not base.weight.requires_grad


class _Copies:
    """Adapter weights in the format of the activations, A times the adapter's scale.

    Each pass makes all anew at once: a few kernels, where a cast in each layer would be a thousand.
    Versions of tensors do not tell whether it must: fused optimisers leave them as they are.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[int, torch.dtype], tuple[Tensor, Tensor, float]] = {}
        self._fresh = False

    def forget(self) -> None:
        """A pass begins; weights may have changed."""
        self._fresh = False

    def of(self, weight: Tensor, dtype: torch.dtype, scale: float = 1.0) -> Tensor:
        """The copy of a weight as it is in this pass; scaled in float32, then rounded."""
        key = (id(weight), dtype)
        if key not in self._known:
            self._known[key] = weight, (weight.detach() * scale).to(dtype), scale
        elif not self._fresh:
            self._refresh()
        return self._known[key][1]

    @torch.no_grad()
    def _refresh(self) -> None:
        for scale in {scale for _, _, scale in self._known.values()}:
            these = [entry for entry in self._known.values() if entry[2] == scale]
            weights = [weight for weight, _, _ in these]
            scaled = weights if scale == 1.0 else torch._foreach_mul(weights, scale)
            torch._foreach_copy_([copy for _, copy, _ in these], scaled)
        self._fresh = True


class _FusedForward:
    """Stands in for the forward pass of a LoRA layer."""

    def __init__(self, layer: Any, copies: _Copies) -> None:
        self._layer, self._plain, self._copies = layer, layer.forward, copies
        self._base = layer.get_base_layer()
        self._adapters: dict[str, tuple[Tensor, Tensor, float] | None] = {}

    def __call__(self, x: Tensor, *args: Any, **options: Any) -> Tensor:
        adapter = None if args or options else self._only_adapter()
        if adapter is None:
            return self._plain(x, *args, **options)
        a, b, scale = adapter
        low, high = self._copies.of(a, x.dtype, scale), self._copies.of(b, x.dtype)
        return _LoraProduct.apply(x, a, b, low, high, self._base, scale)

    def _only_adapter(self) -> tuple[Tensor, Tensor, float] | None:
        """(A, B, scale) of the one adapter at work, where it is plain LoRA."""
        layer = self._layer
        active = layer.active_adapters
        if layer.disable_adapters or layer.merged or len(active) != 1:
            return None
        [name] = active
        if name not in self._adapters:
            self._adapters[name] = self._plain_adapter(name)
        return self._adapters[name]

    def _plain_adapter(self, name: str) -> tuple[Tensor, Tensor, float] | None:
        layer = self._layer
        special = (
            name not in layer.lora_A
            or name in layer.lora_variant
            or not isinstance(layer.lora_dropout[name], nn.Identity)
            or layer.lora_B[name].bias is not None
        )
        if special:
            return None
        return layer.lora_A[name].weight, layer.lora_B[name].weight, layer.scaling[name]


class _LoraProduct(torch.autograd.Function):
    """W x + bias + B (s A) x over a frozen linear layer; gradients for x, A and B."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, a: Tensor, b: Tensor, low: Tensor, high: Tensor, base: Any, s: float
    ) -> Tensor:
        """`low` is s A and `high` is B, both in the format of x."""
        flat = x.view(-1, x.shape[-1]) if x.is_contiguous() else x.reshape(-1, x.shape[-1])
        y = F.linear(flat, _dense(base, x.dtype), base.bias)
        narrow = flat @ low.t()
        y.addmm_(narrow, high.t())
        ctx.save_for_backward(flat, narrow, low, high)
        ctx.base, ctx.scale, ctx.formats = base, s, (a.dtype, b.dtype)
        return y.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        flat, narrow, low, high = ctx.saved_tensors
        shape, dy = dy.shape, dy.reshape(-1, dy.shape[-1])
        d_narrow = dy @ high
        dx = None
        if ctx.needs_input_grad[0]:
            dx = dy @ _dense(ctx.base, dy.dtype)
            dx.addmm_(d_narrow, low)
            dx = dx.view(*shape[:-1], -1)
        da = _product(d_narrow.t(), flat, ctx.formats[0]).mul_(ctx.scale)
        db = _product(dy.t(), narrow, ctx.formats[1])
        return dx, da, db, None, None, None, None


def _dense(base: Any, dtype: torch.dtype) -> Tensor:
    """The frozen weight, widened where it is kept in 4 bits."""
    weight = base.weight
    state = getattr(weight, "quant_state", None)
    if state is None:
        return weight
    from bitsandbytes.functional import dequantize_4bit  # noqa: PLC0415 - an optional extra

    return dequantize_4bit(weight.data, state).to(dtype)


def _product(one: Tensor, other: Tensor, dtype: torch.dtype) -> Tensor:
    """The matrix product in another format, without rounding between where the device can."""
    if one.is_cuda and one.dtype != dtype == torch.float32:
        return torch.mm(one, other, out_dtype=dtype)
    return (one @ other).to(dtype)
