"""A frozen base model whose layers are shared out among all processes: FSDP2, for training.

Each process keeps its part of every layer; a layer is whole only while a pass is in it. Embeddings,
norms and the output head stay whole, and so does what is added later: an adapter is trained as it
would be on a model that fits. All processes have to make the same passes.
"""

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM

from apc_cli.errors import ConfigError
from apc_cli.models import memory, ranks


def load_sharded(where: str, dtype: torch.dtype, device: torch.device, **options: Any) -> Any:
    """The model of a checkpoint, which the first process alone reads, into its CPU's memory.

    Raises:
        ConfigError: nothing tells the layers of this architecture.
        OSError, ValueError: the checkpoint cannot be had.
    """
    place = "meta" if ranks.own() else "cpu"
    model = AutoModelForCausalLM.from_pretrained(where, dtype=dtype, device_map=place, **options)
    vars(model).pop("hf_device_map", None)  # says "meta"; trainers would believe it
    model.requires_grad_(False)
    ranks.gathered(None)  # reading may take longer than GPUs wait for each other
    layers = _layers(model)
    mesh = init_device_mesh(device.type, (ranks.count(),), mesh_dim_names=("fsdp",))
    for layer in layers:
        _receive(layer, device)
        fully_shard(layer, mesh=mesh)
    _receive(model, device)
    shared_out = {weight for layer in layers for weight in layer.parameters()}
    whole = set(model.parameters()) - shared_out
    fully_shard(model.base_model, mesh=mesh, ignored_params=whole)
    memory.release()
    return model


def is_sharded(model: nn.Module) -> bool:
    """Whether a process holds only a part of the model."""
    return bool(sharded_names(model))


def sharded_names(model: nn.Module) -> list[str]:
    """The names of the weights that are shared out."""
    return [name for name, weight in model.named_parameters() if isinstance(weight, DTensor)]


def _layers(model: Any) -> list[nn.Module]:
    kinds = set(getattr(model, "_no_split_modules", None) or ())
    found = [module for module in model.modules() if type(module).__name__ in kinds]
    if not found:
        raise ConfigError(
            f"{type(model).__name__} does not tell its layers, so that they cannot be shared out",
            "set policy.sharding: none, or use another model",
        )
    return found[::-1]  # what lies within another comes first


def _receive(module: nn.Module, device: torch.device) -> None:
    """Puts what is not shared out yet on the device, with the values that the first process has.

    One tensor under two names, such as a tied output head, stays one.
    """
    moved: dict[int, Tensor] = {}
    for part in module.modules():
        for tensors in (part._parameters, part._buffers):
            for name, tensor in tensors.items():
                if tensor is None or isinstance(tensor, DTensor):
                    continue
                if id(tensor) not in moved:
                    moved[id(tensor)] = _received(tensor, device)
                tensors[name] = moved[id(tensor)]


def _received(tensor: Tensor, device: torch.device) -> Tensor:
    blank = tensor.is_meta
    found = torch.empty_like(tensor, device=device) if blank else tensor.detach().to(device)
    found = found.contiguous()
    distributed.broadcast(found, 0)
    return nn.Parameter(found, requires_grad=False) if isinstance(tensor, nn.Parameter) else found
