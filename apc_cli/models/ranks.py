"""The processes of one run that train together: who this one is, and what all of them agree on.

A launcher (`apc train --num-gpus`, `accelerate launch`, torchrun) gives each its rank in the
environment. Without one there is a single process, and nothing here does anything.
"""

import os
from collections.abc import Callable
from typing import Any, TypeVar

from accelerate.utils import gather_object

from apc_cli.errors import ConfigError

Value = TypeVar("Value")


def count() -> int:
    """How many processes there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def own() -> int:
    """This process's number; 0 is the one that writes and speaks."""
    return int(os.environ.get("RANK", "0"))


def share(batch: int) -> int:
    """A process's part of a batch.

    Raises:
        ConfigError: it cannot be divided among them.
    """
    if batch % count():
        raise ConfigError(
            f"a batch of {batch} cannot be divided among {count()} processes",
            "choose dpo.batch_size and warm_up.batch_size that can, or fewer GPUs",
        )
    return batch // count()


def gathered(value: Value) -> list[Value]:
    """Everyone's value, by rank."""
    return list(gather_object([value])) if count() > 1 else [value]


def least(value: Value, key: Callable[[Value], Any]) -> Value:
    """The smallest of everyone's values."""
    return min(gathered(value), key=key)
