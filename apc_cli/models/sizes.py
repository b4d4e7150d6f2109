"""How many weights a chat model and its LoRA adapter have, told from its configuration alone."""

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from apc_cli.models.adapters import linear_layer_names
from apc_cli.models.references import resolve


def count_weights(model: str, rank: int) -> tuple[int, int] | None:
    """(weights of the model, of an adapter of that rank); None where its configuration is unread.

    Why it cannot be read is for loading the model to tell.
    """
    try:
        config = AutoConfig.from_pretrained(resolve(model), trust_remote_code=False)
        with torch.device("meta"):
            made = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
        made.tie_weights()
    except (OSError, ValueError, TypeError, KeyError, RuntimeError):
        return None
    adapted = set(linear_layer_names(made))
    layers = [
        module
        for name, module in made.named_modules()
        if isinstance(module, nn.Linear) and name.rsplit(".", 1)[-1] in adapted
    ]
    adapter = sum(rank * (layer.in_features + layer.out_features) for layer in layers)
    return sum(weight.numel() for weight in made.parameters()), adapter
