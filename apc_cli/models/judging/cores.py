"""Independent pieces of work side by side on the CPU's cores, one core each.

Cores that share a small matrix product wait for one another after it, and where another program
runs on one of them all wait until it is back: thousands of times a reply. Apart they need not.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import chain
from typing import TypeVar

import torch

_Made = TypeVar("_Made")
_team = threading.local()
"""`at_work`: an entry for each thread, this one included, that a call of this thread waits for."""


def side_by_side(work: Sequence[Callable[[], _Made]]) -> list[_Made]:
    """The results in order; one piece after the other where there are fewer than cores.

    The cores are those that PyTorch may use in the calling thread, which does the first piece. The
    threads beside it never share theirs: OpenMP waits less eagerly, for good, once more threads
    than there are cores have worked for it.

    Raises:
        Exception: what a piece raised.
    """
    cores = torch.get_num_threads()
    if len(work) < cores or cores < 2:
        return [one() for one in work]
    inference, left = torch.is_inference_mode_enabled(), iter(enumerate(work))
    made: dict[int, _Made] = {}
    at_work: list[None] = [None] * cores

    def take(pieces: Iterable[tuple[int, Callable[[], _Made]]]) -> None:
        torch.set_num_threads(1)
        with torch.inference_mode(inference):  # a thread's own, as is the number of threads
            for place, piece in pieces:
                made[place] = piece()

    def help_out() -> None:
        try:
            take(left)  # who is free takes the next
        finally:
            at_work.pop()

    own = next(left)
    helpers = [_threads().submit(help_out) for _ in range(cores - 1)]
    _team.at_work, _team.cores = at_work, cores
    try:
        take(chain([own], left))
    finally:
        _team.at_work = None
        deque(left, maxlen=0)  # after a failure nothing more is begun
        for helper in [one for one in helpers if not one.cancel()]:
            helper.result()
        torch.set_num_threads(cores)  # MKL has one number for all threads
    return [made[place] for place in range(len(work))]


def use_free_cores() -> None:
    """For a piece to call now and then: the calling thread takes over the cores of those done."""
    if at_work := getattr(_team, "at_work", None):
        free = _team.cores - len(at_work)
        if torch.get_num_threads() != 1 + free:
            torch.set_num_threads(1 + free)


@cache
def _threads() -> ThreadPoolExecutor:
    """Threads that stay: what oneDNN and the allocator keep is a thread's own."""
    return ThreadPoolExecutor(os.cpu_count() or 1, "core")
