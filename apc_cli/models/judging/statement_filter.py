"""Which statements of a large persona are worth a judge's time: those near the query or the reply.

A filter changes scores: what is skipped counts as irrelevant and not contradicted, ΔAPC 0. It is
off unless asked for, and how far it is off is measured in bench/RESULTS.md.
"""

import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from apc_cli.models.judging.embedder import Embedder

_FEWEST = 8
"""Statements that are always judged."""

_SENTENCE = re.compile(r"(?<=[.!?。！？])\s*")


class NearestStatements:
    """The share of a persona's statements with the highest cosine to the query or to a sentence."""

    def __init__(self, share: float, embedder: Embedder) -> None:
        self._share, self._embedder = share, embedder
        self._vectors = lru_cache(maxsize=64)(self._embed)

    def choose(self, statements: tuple[str, ...], query: str, response: str) -> list[int]:
        """Indices of the statements to judge, in their order; ties go to the earlier one."""
        count = max(_FEWEST, round(self._share * len(statements)))
        if count >= len(statements):
            return list(range(len(statements)))
        said = [query, *(part for part in _SENTENCE.split(response) if part.strip())]
        nearness = (self._vectors(statements) @ self._vectors(tuple(said)).T).max(axis=1)
        return sorted(np.argsort(-nearness, kind="stable")[:count].tolist())

    def _embed(self, texts: Sequence[str]) -> np.ndarray:
        return self._embedder.embed(texts)
