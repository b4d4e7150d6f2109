"""Independent pieces of work side by side on the CPU's cores, one core each.

Cores that share a small matrix product wait for one another after it, and where another program
runs on one of them all wait until it is back: thousands of times a reply. Apart they need not.
"""

import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from typing import TypeVar

import torch

_Made = TypeVar("_Made")


def side_by_side(work: Sequence[Callable[[], _Made]]) -> list[_Made]:
    """The results in order; one piece after the other where there are fewer than cores.

    The cores are those that PyTorch may use in the calling thread. None of the threads beside it
    ever uses more than one: OpenMP waits less eagerly, for good, once more threads than there are
    cores have worked for it.

    Raises:
        Exception: what a piece raised.
    """
    cores = torch.get_num_threads()
    if len(work) < cores or cores < 2:
        return [one() for one in work]
    inference, left = torch.is_inference_mode_enabled(), iter(enumerate(work))
    made: dict[int, _Made] = {}

    def take() -> None:
        torch.set_num_threads(1)
        with torch.inference_mode(inference):  # a thread's own, as is the number of threads
            for place, piece in left:  # who is free takes the next
                made[place] = piece()

    helpers = [_threads().submit(take) for _ in range(cores - 1)]
    try:
        take()
    finally:
        deque(left, maxlen=0)  # after a failure nothing more is begun
        begun = [helper for helper in helpers if not helper.cancel()]
        wait(begun)
        torch.set_num_threads(cores)  # MKL has one number for all threads
    for helper in begun:
        helper.result()
    return [made[place] for place in range(len(work))]


@cache
def _threads() -> ThreadPoolExecutor:
    """Threads that stay: what oneDNN and the allocator keep is a thread's own."""
    return ThreadPoolExecutor(os.cpu_count() or 1, "core")
