"""Word and phrase banks from the YAML files beside this one, and choices that a hash decides."""

import hashlib
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any, TypeVar

import yaml

T = TypeVar("T")


@cache
def bank(name: str) -> dict[str, Any]:
    """The parsed `name`.yaml of this package."""
    text = resources.files(__package__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


@cache
def words(key: str) -> frozenset[str]:
    """The words listed, separated by blanks, under `key` of lexicon.yaml."""
    return frozenset(bank("lexicon")[key].split())


class Chooser:
    """Choices that depend on nothing but the seed and the texts it was made from."""

    def __init__(self, *parts: object) -> None:
        self._base = "\x1f".join(str(part) for part in parts)

    def number(self, purpose: str) -> int:
        digest = hashlib.sha256(f"{self._base}\x1f{purpose}".encode()).digest()
        return int.from_bytes(digest[:8], "big")

    def pick(self, purpose: str, options: Sequence[T]) -> T:
        return options[self.number(purpose) % len(options)]

    def chance(self, purpose: str, percent: int) -> bool:
        return self.number(purpose) % 100 < percent

    def order(self, purpose: str, options: Sequence[T]) -> list[T]:
        """All options, shuffled."""
        ranks = [(self.number(f"{purpose}/{index}"), index) for index in range(len(options))]
        return [options[index] for _, index in sorted(ranks)]
