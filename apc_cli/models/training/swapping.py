"""Attributes that stand in for others while a context is open."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def swapped(owner: Any, name: str, value: Any) -> Iterator[None]:
    """The owner's own attribute is `value`; afterwards it is what it was, or gone again."""
    before = vars(owner).get(name, swapped)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if before is swapped:
            delattr(owner, name)
        else:
            setattr(owner, name, before)
