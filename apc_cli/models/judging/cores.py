"""Independent pieces of work side by side on the CPU's cores, each on its share of them.

Cores that share a small matrix product wait for one another after it, and where another program
runs on one of them all wait until it is back: thousands of times a reply. Apart they need not.
"""

import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch

_Made = TypeVar("_Made")


def side_by_side(work: Sequence[Callable[[], _Made]]) -> list[_Made]:
    """The results in order. The cores are those that PyTorch may use in the calling thread.

    Raises:
        Exception: what a piece raised.
    """
    cores = torch.get_num_threads()
    at_once = min(len(work), cores)
    if at_once < 2:
        return [one() for one in work]
    inference, left = torch.is_inference_mode_enabled(), iter(enumerate(work))
    made: dict[int, _Made] = {}

    def take() -> None:
        torch.set_num_threads(cores // at_once)
        with torch.inference_mode(inference):  # a thread's own, as is the number of cores
            for place, piece in left:  # whoever is free takes the next
                made[place] = piece()

    others = [_threads().submit(take) for _ in range(at_once - 1)]
    try:
        take()
    finally:
        deque(left, maxlen=0)  # of work that failed or was interrupted, nothing more is begun
        begun = [other for other in others if not other.cancel()]
        for other in begun:
            other.result()
        torch.set_num_threads(cores)  # MKL has one number for all threads
    return [made[place] for place in range(len(work))]


@cache
def _threads() -> ThreadPoolExecutor:
    """Threads that stay: what oneDNN and the allocator keep is a thread's own."""
    return ThreadPoolExecutor(os.cpu_count() or 1, "core")
