"""Training an adapter over a base model that is shared out among the processes.

The base is frozen and is FSDP2's; the adapter is whole in each process, and its gradients are
averaged by DDP as ever. So an adapter, its checkpoints and its optimiser are those of other runs.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from accelerate import accelerator
from torch.nn.parallel import DistributedDataParallel

from apc_cli.models.playing.sharding import sharded_names
from apc_cli.models.training.swapping import swapped


@contextmanager
def adapter_alone(model: Any) -> Iterator[None]:
    """While it is open, DDP wraps the model, but leaves alone the weights that are shared out."""
    names = sharded_names(model)
    if not names:
        yield
        return
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, names)
    with swapped(accelerator, "model_has_dtensor", lambda _: False):  # accelerate would refuse it
        yield
