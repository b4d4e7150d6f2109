"""LoRA adapter directories that plain `peft` reads, loaded without its silent fallbacks.

`peft` only warns when an adapter's tensors do not fit, and then runs the base model alone.
"""

import copy
import json
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from peft import set_peft_model_state_dict as set_adapter_weights
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from apc_cli.errors import ConfigError, DataError
from apc_cli.models.references import published, resolve

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"


def add_lora(model: Any, *, rank: int, alpha: int, task: str) -> PeftModel:
    """A fresh LoRA adapter on every linear layer but the output head."""
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        target_modules=linear_layer_names(model),
        task_type=task,
    )
    return get_peft_model(model, config)


def linear_layer_names(model: Any) -> list[str]:
    """The last part of the name of every linear layer inside the repeated blocks."""
    return sorted(
        {
            name.rsplit(".", 1)[-1]
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear) and ".layer" in f".{name}"
        }
    )


def base_reference(directory: Path) -> str:
    """The base model that an adapter directory says it belongs to."""
    try:
        return str(json.loads((directory / CONFIG).read_text())["base_model_name_or_path"])
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{directory / CONFIG} does not name its base model") from error


def check_base(directory: Path, model: str) -> None:
    """Raises ConfigError where the adapter was trained on another model than `model`.

    A directory of the same name elsewhere is taken for the same model; that of no adapter at all is
    for `load_adapter` to refuse.
    """
    if not (directory / CONFIG).is_file():
        return
    trained_on, given = base_reference(directory), (resolve(model), published(model).name)
    if trained_on not in given and Path(trained_on).name not in [Path(one).name for one in given]:
        raise ConfigError(
            f"the adapter was trained on {trained_on}, policy.model is {model}",
            "set policy.model to the model that it was trained on",
        )


def load_adapter(model: Any, directory: Path, *, trainable: bool = False) -> PeftModel:
    """The model with the directory's adapter on it.

    Raises:
        DataError: the weights are missing, damaged, or made for another base model.
    """
    path = directory / WEIGHTS
    if not path.is_file():
        raise DataError(f"{directory} has no {WEIGHTS}", "only safetensors adapters are read")
    try:
        weights = load_file(path)
        config = LoraConfig.from_pretrained(str(directory))
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise DataError(f"{directory} is not a readable LoRA adapter: {error}") from error
    config.inference_mode = not trainable
    adapted = get_peft_model(model, config)
    _check_fit(adapted, weights, directory)
    set_adapter_weights(adapted, weights)
    return adapted


def save_adapter(
    model: PeftModel, directory: Path, *, base: str, dtype: torch.dtype | None = None
) -> None:
    """Writes the adapter in peft's format; `dtype` halves the file for shipping."""
    directory.mkdir(parents=True, exist_ok=True)
    weights = {
        name: (tensor.to(dtype) if dtype else tensor).detach().cpu().contiguous()
        for name, tensor in get_peft_model_state_dict(model).items()
    }
    save_file(weights, directory / WEIGHTS, metadata={"format": "pt"})
    config = copy.copy(model.peft_config["default"])
    config.base_model_name_or_path = base
    config.inference_mode = True
    config.target_modules = sorted(config.target_modules)  # a set's order differs by process
    config.save_pretrained(str(directory))


def _check_fit(model: PeftModel, weights: dict[str, torch.Tensor], directory: Path) -> None:
    expected = {name: tensor.shape for name, tensor in get_peft_model_state_dict(model).items()}
    found = {name: tensor.shape for name, tensor in weights.items()}
    if expected == found:
        return
    wrong = sorted(n for n in expected.keys() | found.keys() if expected.get(n) != found.get(n))
    raise DataError(
        f"the adapter in {directory} does not fit its base model: {len(wrong)} tensors differ, "
        f"the first is {wrong[0]}",
        "use the base model that it was trained on",
    )
