"""Which persona statements the role-play model is shown for a query (paper section 4.2)."""

from collections.abc import Callable, Sequence

import numpy as np

from apc_cli.models.judging.embedder import Embedder
from apc_cli.models.judging.scorer import Scorer

Relevance = Callable[[str], np.ndarray]
"""How relevant each statement is to a query, shape (statements,); only the order counts."""


class Retriever:
    """The top-k statements by relevance, in the persona's own order."""

    def __init__(self, relevance: Relevance, statements: Sequence[str]) -> None:
        self._relevance, self._statements = relevance, tuple(statements)

    def top(self, query: str, k: int) -> list[str]:
        """At most k statements; ties go to the earlier one."""
        best = np.argsort(-self._relevance(query), kind="stable")[:k]
        return [self._statements[i] for i in sorted(best)]


def by_discriminator(scorer: Scorer, character: str, statements: Sequence[str]) -> Retriever:
    """Retrieves by P_g, as the paper does."""
    return Retriever(lambda query: scorer.relevance(character, statements, query), statements)


def by_embedding(embedder: Embedder, statements: Sequence[str]) -> Retriever:
    """Retrieves by the cosine of sentence embeddings; every statement is read once."""
    known = embedder.embed(statements)
    return Retriever(lambda query: known @ embedder.embed([query])[0], statements)
