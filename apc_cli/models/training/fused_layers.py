"""The steps between a decoder's matrix products as one Triton kernel each, by Liger.

Norms, rotary positions and gated activations read and write every activation several times where
each operation is a kernel. What is replaced is found by trying: a kernel takes a module's place
only if both give the same on random input, so that any architecture may come.
"""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from apc_cli.models.training.swapping import swapped

_TOLERANCE = 0.02
"""Relative difference allowed between a kernel and what it replaces in half precision."""


@contextmanager
def fused_layers(model: nn.Module) -> Iterator[int]:
    """Replaces what it can while it is open; gives how many modules and functions that were."""
    with ExitStack() as stack:
        found = list(_replacements(model)) if _has_liger(model) else []
        for owner, name, value in found:
            stack.enter_context(swapped(owner, name, value))
        yield len(found)


def _has_liger(model: Any) -> bool:
    on_gpu = model.device.type == "cuda" and model.dtype in (torch.bfloat16, torch.float16)
    return on_gpu and importlib.util.find_spec("liger_kernel") is not None


Replacement = tuple[Any, str, Callable[..., Any]]


def _replacements(model: Any) -> Iterator[Replacement]:
    """(owner, name of its attribute, what takes its place)."""
    found: dict[type, Callable[..., Any] | None] = {}
    for module in model.modules():
        kind = type(module)
        if kind not in found:
            found[kind] = _kernel_for(module, model)
        if found[kind]:
            yield module, "forward", partial(found[kind], module)
    for source in {sys.modules[kind.__module__] for kind in found}:
        if _rotates_alike(source, model):
            yield source, "apply_rotary_pos_emb", _rotate


def _kernel_for(module: nn.Module, model: Any) -> Callable[..., Any] | None:
    """The forward pass to take the place of that of all modules of the kind."""
    if type(module).__name__.endswith("RMSNorm") and getattr(module, "weight", None) is not None:
        return _norm_kernel(module, model)
    if all(hasattr(module, name) for name in ("gate_proj", "up_proj", "down_proj", "act_fn")):
        return _gate_kernel(module, model)
    return None


def _norm_kernel(module: Any, model: Any) -> Callable[[Any, Tensor], Tensor] | None:
    from liger_kernel.ops.rms_norm import LigerRMSNormFunction  # noqa: PLC0415 - an extra

    x = _random(model, 5, module.weight.shape[0])
    expected = module(x)
    for offset, casting in ((0.0, "llama"), (1.0, "gemma"), (0.0, "gemma")):

        def norm(self: Any, x: Tensor, offset: float = offset, casting: str = casting) -> Tensor:
            epsilon = getattr(self, "variance_epsilon", None) or self.eps
            return LigerRMSNormFunction.apply(x, self.weight, epsilon, offset, casting, False)

        if _alike(norm(module, x), expected):
            return norm
    return None


def _gate_kernel(module: Any, model: Any) -> Callable[[Any, Tensor], Tensor] | None:
    from liger_kernel.ops.geglu import LigerGELUMulFunction  # noqa: PLC0415 - an extra
    from liger_kernel.ops.swiglu import LigerSiLUMulFunction  # noqa: PLC0415 - an extra

    x = _random(model, 5, module.gate_proj.in_features)
    expected = module(x)
    ways = [partial(_gated, kernel) for kernel in (LigerGELUMulFunction, LigerSiLUMulFunction)]
    return next((way for way in ways if _alike(way(module, x), expected)), None)


def _gated(kernel: Any, module: Any, x: Tensor) -> Tensor:
    return module.down_proj(kernel.apply(module.gate_proj(x), module.up_proj(x)))


def _rotates_alike(source: Any, model: Any) -> bool:
    plain = getattr(source, "apply_rotary_pos_emb", None)
    if plain is None:
        return False
    config = model.config.get_text_config()
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    angles = _random(model, 1, 5, width // 2).repeat(1, 1, 2)
    query, key = (_random(model, 1, 5, heads, width).transpose(1, 2) for heads in (4, 2))
    try:
        expected = plain(query.clone(), key.clone(), angles.cos(), angles.sin())
    except (TypeError, ValueError, RuntimeError):
        return False
    found = _rotate(query, key, angles.cos(), angles.sin())
    return all(map(_alike, found, expected))


def _rotate(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor, **_: Any) -> Any:
    """Rotates in place, where memory allows: heads behind one another for each token."""
    from liger_kernel.ops.rope import LigerRopeFunction  # noqa: PLC0415 - an extra

    return LigerRopeFunction.apply(query, key, cos, sin)


def _random(model: Any, *shape: int) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    return torch.randn(*shape, generator=draw).to(model.device, model.dtype)


def _alike(one: Tensor, other: Tensor) -> bool:
    one, other = one.detach().float(), other.detach().float()
    return one.shape == other.shape and bool((one - other).norm() < _TOLERANCE * other.norm())
