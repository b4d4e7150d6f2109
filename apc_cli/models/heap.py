"""How the C library keeps the memory that tensors on a CPU are made in.

glibc asks the system for every large block anew and gives it back as soon as it is free. A training
step makes hundreds of them, and each page of each costs a fault: a third of the step.
"""

import ctypes
from functools import cache

# Numbers of malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_MOST_KEPT = 2**31 - 1
"""Bytes at the end of the heap that stay with the process; the most that an int can say."""


@cache
def keep_freed_memory() -> bool:
    """Lets the process use freed blocks again; False where the C library is not glibc.

    It holds until the process ends, which therefore keeps up to 2 GiB that are free.
    """
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):  # Windows, macOS, musl
        return False
    return bool(set_option(_TRIM_THRESHOLD, _MOST_KEPT) and set_option(_MMAP_MAX, 0))
