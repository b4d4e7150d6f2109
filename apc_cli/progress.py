"""How a step tells that it is getting on, without knowing of a terminal."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Task(Protocol):
    """One running piece of work."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Some steps are done; `note` is a short remark such as the current loss."""


class Progress(Protocol):
    """Where steps report."""

    def task(self, title: str, total: int) -> AbstractContextManager[Task]:
        """Opens a piece of work of `total` steps."""

    def say(self, text: str) -> None:
        """A line for the user."""


class Silence:
    """A Progress, and a Task of it, for those who have nothing to tell."""

    @contextmanager
    def task(self, title: str, total: int) -> Iterator["Silence"]:
        """Itself."""
        yield self

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Nothing."""

    def say(self, text: str) -> None:
        """Nothing."""
