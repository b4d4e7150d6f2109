"""Loading a chat model of transformers: in 4-bit, or on several GPUs, where that is asked for."""

from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from transformers.utils import is_bitsandbytes_available

from apc_cli.errors import ConfigError
from apc_cli.models import memory
from apc_cli.models.devices import pick_device, pick_dtype
from apc_cli.models.playing.sharding import load_sharded
from apc_cli.models.references import resolve

Placement = Literal["whole", "spread", "sharded"]
"""On one device; one process with layers on all GPUs; each process with a part of each layer."""


def load_chat_model(
    model: str, quantization: str, device: str, dtype: str, placement: Placement = "whole"
) -> tuple[Any, Any, str]:
    """(model, tokenizer, where its files are), in nf4 where asked.

    Raises:
        ConfigError: the model cannot be had, does not fit, or nf4 without CUDA and bitsandbytes.
    """
    where, target = resolve(model), pick_device(device)
    options: dict[str, Any] = {"trust_remote_code": False, "use_safetensors": True}
    if placement == "whole" and _use_nf4(quantization, target):
        options |= {"quantization_config": _nf4(), "device_map": {"": target}}
    elif placement == "spread" and target.type == "cuda":
        memory.release()
        options |= {"device_map": "auto"}
    load = AutoModelForCausalLM.from_pretrained
    if placement == "sharded":
        load = partial(load_sharded, device=target)
    try:
        base = load(where, dtype=pick_dtype(dtype, target), **options)
        tokenizer = AutoTokenizer.from_pretrained(where, trust_remote_code=False)
    except (OSError, ValueError) as error:
        first = str(error).strip().split("\n")[0]
        raise ConfigError(
            f"cannot load the role-play model {model}: {first}",
            None if Path(where).is_dir() else "gated models need HF_TOKEN and an accepted licence",
        ) from error
    if placement != "sharded" and "device_map" not in options:
        base = base.to(target)
    if placement == "spread" and {"cpu", "disk"} & _devices(base):
        raise ConfigError(
            f"{model} does not fit the free memory of this machine's GPUs",
            "use a machine with more of it, or policy.quantization: nf4 and policy.sharding: none",
        )
    return base, tokenizer, where


def is_spread(model: Any) -> bool:
    """Whether the model's layers lie on several devices."""
    return len(_devices(model)) > 1


def _devices(model: Any) -> set[Any]:
    """Where a model lies that was spread, by accelerate's numbers and names."""
    return set((getattr(model, "hf_device_map", None) or {}).values())


def _use_nf4(quantization: str, device: torch.device) -> bool:
    if quantization == "none" or (quantization == "auto" and device.type != "cuda"):
        return False
    if device.type != "cuda" or not is_bitsandbytes_available():
        raise ConfigError(
            "4-bit loading needs a CUDA GPU and bitsandbytes",
            "run: pip install 'apc-cli[gpu]', or set policy.quantization: none",
        )
    return True


def _nf4() -> BitsAndBytesConfig:
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
    )
