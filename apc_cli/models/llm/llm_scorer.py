"""An LLM in the place of the discriminators: the paper's GPT-4 evaluator (section 5)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from apc_cli.errors import ApcError, TryAgainLater
from apc_cli.models.llm.llm_asking import Asker, FailedItem
from apc_cli.models.llm.llm_judge import Judge
from apc_cli.models.score_records import score_of
from apc_cli.records import RELEVANCE_LABELS, SURE_FROM, Judgement, Score

_YES = RELEVANCE_LABELS.index("yes")


@dataclass(frozen=True)
class Unscored:
    """In the place of a score where the LLM gave no verdict on some statements."""

    reason: str

    def row(self, *, explain: bool = False) -> dict[str, Any]:
        """What `apc score` adds to the input row."""
        return {"error": self.reason}


class LlmScorer:
    """Scores replies as `Scorer` does, by asking an LLM about each statement."""

    truncated = 0
    """How many inputs were longer than the LLM reads: it refuses them instead."""

    def __init__(
        self, asker: Asker, samples: int, weights: Mapping[str, float], *, strict: bool
    ) -> None:
        """`weights` says how much a statement counts, 1 where it does not say.

        With `strict`, a reply that cannot be scored is an error, not an `Unscored`.
        """
        self._judge, self._asker, self._strict = Judge(asker, samples), asker, strict
        self._weights = weights

    def for_shard(self) -> "LlmScorer":
        """Itself: what it says of a reply depends on nothing that it was asked before."""
        return self

    @property
    def sure_from(self) -> tuple[float, float]:
        """How probable a label of relevance and of NLI must be for its verdict to be sure."""
        return SURE_FROM, SURE_FROM

    def relevance(self, character: str, statements: Sequence[str], query: str) -> np.ndarray:
        """P_g of each statement, shape (statements,)."""
        return self.relevances([(character, statement, query) for statement in statements])[:, _YES]

    def relevances(self, items: Sequence[tuple[str, str, str]]) -> np.ndarray:
        """P(label) of each (character, statement, query), shape (items, 2), as RELEVANCE_LABELS."""
        return self._whole(self._relevance_of(items))

    def verdicts(self, items: Sequence[tuple[str, str, str, str]]) -> np.ndarray:
        """P(label) of each (character, statement, query, response), (items, 3), as NLI_LABELS."""
        return self._whole(self._nli_of(items))

    def score(
        self, character: str, statements: Sequence[str], query: str, responses: Sequence[str]
    ) -> list[Score | Unscored]:
        """The score of each response to the query against all statements."""
        return self.score_all(character, statements, [(query, response) for response in responses])

    def score_all(
        self, character: str, statements: Sequence[str], replies: Sequence[tuple[str, str]]
    ) -> list[Score | Unscored]:
        """The score of each (query, response), all asked at once.

        Raises:
            ApcError: there is no verdict on a statement, and the scorer is strict.
        """
        queries = list(dict.fromkeys(query for query, _ in replies))
        asked = [(character, s, query) for query in queries for s in statements]
        relevance = _grouped(queries, self._relevance_of(asked), len(statements))
        distinct = list(dict.fromkeys(replies))
        claims = [(character, s, *reply) for reply in distinct for s in statements]
        verdicts = _grouped(distinct, self._nli_of(claims), len(statements))
        found = {
            reply: self._score(statements, reply, relevance[reply[0]], verdict)
            for reply, verdict in verdicts.items()
        }
        return [found[reply] for reply in replies]

    def _score(
        self,
        statements: Sequence[str],
        reply: tuple[str, str],
        relevance: Sequence[Judgement | None],
        verdicts: Sequence[Judgement | None],
    ) -> Score | Unscored:
        missing = sum(None in pair for pair in zip(relevance, verdicts, strict=True))
        if missing:
            failures = [item for item in self._asker.failures if _is_about(item, reply)]
            if self._strict:
                raise _no_verdict(missing, failures)
            return Unscored(_told(missing, failures))
        return score_of(
            statements,
            self._whole(relevance)[:, _YES],
            self._whole(verdicts),
            weights=self._weights,
        )

    def _relevance_of(self, items: Sequence[tuple[str, str, str]]) -> list[Judgement | None]:
        names = ("character", "statement", "query")
        return self._judge.relevance([dict(zip(names, item, strict=True)) for item in items])

    def _nli_of(self, items: Sequence[tuple[str, str, str, str]]) -> list[Judgement | None]:
        names = ("character", "statement", "query", "response")
        return self._judge.nli([dict(zip(names, item, strict=True)) for item in items])

    def _whole(self, judgements: Sequence[Judgement | None]) -> np.ndarray:
        found = [judgement.probabilities for judgement in judgements if judgement]
        if len(found) < len(judgements):
            raise _no_verdict(len(judgements) - len(found), self._asker.failures)
        return np.array(found)


def _is_about(item: FailedItem, reply: tuple[str, str]) -> bool:
    """Whether the item is a question about this (query, response), or about its query."""
    query, response = reply
    return item.about["query"] == query and item.about.get("response", response) == response


def _told(missing: int, failures: Sequence[FailedItem]) -> str:
    reasons = ", ".join(dict.fromkeys(item.reason for item in failures))
    return f"the evaluator gave no verdict on {missing} statements: {reasons}"


def _no_verdict(missing: int, failures: Sequence[FailedItem]) -> ApcError:
    """The error of a strict scorer, with the way out that is one."""
    if any(item.temporary for item in failures):
        return TryAgainLater(
            _told(missing, failures), "verdicts so far are stored; run again to go on"
        )
    return ApcError(
        _told(missing, failures),
        "asking again gives the same: name another evaluator.model",
    )


def _grouped(
    keys: Sequence[Any], values: Sequence[Judgement | None], size: int
) -> dict[Any, Sequence[Judgement | None]]:
    return {key: values[i * size : (i + 1) * size] for i, key in enumerate(keys)}
