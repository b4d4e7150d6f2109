"""The processes of one run that train together: who this one is, and what all of them agree on.

A launcher (`apc train --num-gpus`, `accelerate launch`, torchrun) gives each its rank in the
environment. The first leads: it runs the pipeline, writes and speaks, and calls the others to what
all do together. Without a launcher there is one process, and nothing here does anything.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

from apc_cli.errors import ConfigError

Value = TypeVar("Value")
_PATIENCE = timedelta(days=30)
"""How long others wait for the first, which may be asking an LLM for hours."""
_talk: Any = None
"""Through what processes talk: by CPU, so that nobody who waits keeps a GPU busy."""
_parted = _by_itself = False


def count() -> int:
    """How many processes there are, or how many take part while one works by itself."""
    return 1 if _by_itself else int(os.environ.get("WORLD_SIZE", "1"))


def own() -> int:
    """This process's number; 0 leads."""
    return int(os.environ.get("RANK", "0"))


def suffix() -> str:
    """What tells this process's files from those of the one that leads."""
    return f"-{own()}" if own() else ""


@contextmanager
def by_itself() -> Iterator[None]:
    """While it is open, the process that leads does alone what is otherwise shared out."""
    global _by_itself
    _by_itself = True
    try:
        yield
    finally:
        _by_itself = False


def join() -> None:
    """Meets the others, once. Each process takes the GPU of its place on its machine.

    Raises:
        ConfigError: this machine has fewer GPUs than processes.
    """
    global _talk
    if count() == 1 or _talk is not None or _parted:
        return
    import torch  # noqa: PLC0415 - heavy, and needed by those who train together alone
    from torch import distributed  # noqa: PLC0415

    place, there = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if there:
        if place >= there:
            raise ConfigError(
                f"process {place} has no GPU: this machine has {there}", "start fewer"
            )
        torch.cuda.set_device(place)
    distributed.init_process_group("nccl" if there else "gloo")
    _talk = distributed.new_group(backend="gloo", timeout=_PATIENCE)


def gathered(value: Value) -> list[Value]:
    """Everyone's value, by rank."""
    if count() == 1 or _parted:
        return [value]
    from torch import distributed  # noqa: PLC0415

    join()
    found: list[Any] = [None] * count()
    distributed.all_gather_object(found, value, group=_talk)
    return found


def first(value: Value) -> Value:
    """The value of the process that leads."""
    return gathered(value)[0]


def least(value: Value, key: Callable[[Value], Any]) -> Value:
    """The smallest of everyone's values."""
    return min(gathered(value), key=key)


def call(*work: str) -> None:
    """Leading, tells the others what all do now; nothing at all sends them home."""
    first(work)
    if not work:
        _part()


def calls() -> Iterator[tuple[str, ...]]:
    """Not leading, what to do, until there is nothing more."""
    while work := first(()):
        yield work
    _part()


def _part() -> None:
    """Nothing is done together any more."""
    global _talk, _parted
    if _talk is not None:
        from torch import distributed  # noqa: PLC0415

        distributed.destroy_process_group()
        _talk, _parted = None, True


def share(batch: int) -> int:
    """A process's part of a batch.

    Raises:
        ConfigError: it cannot be divided among them.
    """
    if batch % count():
        raise ConfigError(
            f"a batch of {batch} cannot be divided among {count()} processes",
            "choose a batch size that can, or fewer GPUs",
        )
    return batch // count()
