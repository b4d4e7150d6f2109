"""Which device and number format a model runs in."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from apc_cli.errors import ConfigError
from apc_cli.models import ranks


def pick_device(name: str) -> torch.device:
    """`auto` is a GPU where there is one, else the CPU; processes have a GPU each."""
    ranks.join()
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError("no CUDA GPU is visible", "use --profile offline, or device: cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        there = torch.cuda.device_count()
        raise ConfigError(f"device {name}: this machine has {there} GPUs, counted from 0")
    return device


def on(device: torch.device) -> AbstractContextManager[Any]:
    """Triton's kernels and CUDA graphs go to the current GPU, which need not be the model's."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


@contextmanager
def sound_gradients() -> Iterator[None]:
    """PyTorch attends without cuDNN while it is open; all training happens in it.

    PyTorch 2.11 to 2.13 choose cuDNN on an H100 or H200, and there its backward pass gives NaN for
    masked texts of some lengths (pytorch/pytorch#196678).
    """
    before = torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 where the hardware multiplies it natively, else float32."""
    if name != "auto":
        return getattr(torch, name)
    native = torch.cuda.is_bf16_supported() if device.type == "cuda" else _cpu_has_bf16()
    return torch.bfloat16 if native else torch.float32


def native_formats(device: torch.device) -> tuple[torch.dtype, ...]:
    """The half-precision formats that the device multiplies natively, the finest first."""
    if device.type == "cuda":
        return (torch.float16, torch.bfloat16) if torch.cuda.is_bf16_supported() else ()
    return (torch.bfloat16,) if device.type == "cpu" and _cpu_has_bf16() else ()


def in_format(model: Any, dtype: torch.dtype) -> Any:
    """The same model in the format, all but the frequencies of its rotary positions.

    Rounded to bfloat16 they turn a token at place 150 by up to a fifth of a radian too far.
    """
    exact = [
        (module, name, frequencies)
        for module in model.modules()
        for name, frequencies in module.named_buffers(recurse=False)
        if name.endswith("inv_freq")
    ]
    model.to(dtype)
    for module, name, frequencies in exact:
        setattr(module, name, frequencies)
    return model


def _cpu_has_bf16() -> bool:
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
