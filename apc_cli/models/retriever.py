"""Which persona statements the role-play model is shown for a query (paper section 4.2)."""

from collections.abc import Sequence

import numpy as np

from apc_cli.models.scorer import Scorer


class Retriever:
    """The top-k statements by relevance, in the persona's own order."""

    def __init__(self, scorer: Scorer, character: str, statements: Sequence[str]) -> None:
        self._scorer, self._character, self._statements = scorer, character, tuple(statements)

    def top(self, query: str, k: int) -> list[str]:
        """At most k statements; ties go to the earlier one."""
        relevance = self._scorer.relevance(self._character, self._statements, query)
        best = np.argsort(-relevance, kind="stable")[:k]
        return [self._statements[i] for i in sorted(best)]
