"""Loading a chat model of transformers, in 4-bit where that is asked for."""

from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from transformers.utils import is_bitsandbytes_available

from apc_cli.errors import ConfigError
from apc_cli.models.devices import pick_device, pick_dtype
from apc_cli.models.references import resolve


def load_chat_model(model: str, quantization: str, device: str, dtype: str) -> tuple[Any, Any, str]:
    """(model, tokenizer, where its files are), in nf4 where asked.

    Raises:
        ConfigError: the model cannot be had, or nf4 without CUDA and bitsandbytes.
    """
    where, target = resolve(model), pick_device(device)
    options: dict[str, Any] = {"trust_remote_code": False, "use_safetensors": True}
    if _use_nf4(quantization, target):
        options |= {"quantization_config": _nf4(), "device_map": {"": target}}
    try:
        base = AutoModelForCausalLM.from_pretrained(
            where, dtype=pick_dtype(dtype, target), **options
        )
        tokenizer = AutoTokenizer.from_pretrained(where, trust_remote_code=False)
    except (OSError, ValueError) as error:
        first = str(error).strip().split("\n")[0]
        raise ConfigError(
            f"cannot load the role-play model {model}: {first}",
            "gated models need HF_TOKEN and an accepted licence",
        ) from error
    if "quantization_config" not in options:
        base = base.to(target)
    return base, tokenizer, where


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
