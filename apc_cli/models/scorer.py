"""Two discriminators and the formulas: the APC score of replies (paper section 3)."""

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter

import numpy as np

from apc_cli.errors import ConfigError
from apc_cli.models.discriminator import Discriminator
from apc_cli.models.score_records import score_of
from apc_cli.prompts import nli_prompt, relevance_prompt
from apc_cli.records import NLI_LABELS, RELEVANCE_LABELS, Score

_YES = RELEVANCE_LABELS.index("yes")
_REMEMBERED_QUERIES = 10_000


class Scorer:
    """Scores replies with one pair of discriminators; relevance is computed once per query."""

    def __init__(self, relevance: Discriminator, nli: Discriminator) -> None:
        self._relevance, self._nli = relevance, nli
        self._known: dict[tuple[str, str], dict[str, float]] = {}

    @classmethod
    def load(
        cls, *, relevance: str, nli: str, language: str = "en", device: str = "auto"
    ) -> "Scorer":
        """A scorer from two model references (hub id, directory, `package:`, `judge:`).

        Raises:
            ConfigError: the discriminators cannot read the language.
        """
        judges = {
            relevance: Discriminator.load(relevance, labels=RELEVANCE_LABELS, device=device),
            nli: Discriminator.load(nli, labels=NLI_LABELS, device=device),
        }
        for name, judge in judges.items():
            known = judge.description.languages
            if known and language not in known:
                raise ConfigError(
                    f"{name} reads only {', '.join(known)}, not {language}",
                    "name a multilingual discriminator in the configuration",
                )
        return cls(judges[relevance], judges[nli])

    @property
    def sure_from(self) -> tuple[float, float]:
        """How probable a label of relevance and of NLI must be for its verdict to be sure."""
        return self._relevance.description.sure_from, self._nli.description.sure_from

    def relevance(self, character: str, statements: Sequence[str], query: str) -> np.ndarray:
        """P_g of each statement, shape (statements,)."""
        if len(self._known) > _REMEMBERED_QUERIES:
            self._known.clear()
        known = self._known.setdefault((character, query), {})
        new = [s for s in dict.fromkeys(statements) if s not in known]
        if new:
            prompt = relevance_prompt(self._relevance.style, character, new, query)
            [found] = self._relevance.prompt_probabilities([prompt])
            known.update(zip(new, found[:, _YES].tolist(), strict=True))
        return np.array([known[s] for s in statements])

    def relevances(self, items: Sequence[tuple[str, str, str]]) -> np.ndarray:
        """P(label) of each (character, statement, query), shape (items, 2), as RELEVANCE_LABELS."""
        prompts = [relevance_prompt(self._relevance.style, c, [s], q) for c, s, q in items]
        return np.concatenate(self._relevance.prompt_probabilities(prompts))

    def verdicts(self, items: Sequence[tuple[str, str, str, str]]) -> np.ndarray:
        """P(label) of each (character, statement, query, response), (items, 3), as NLI_LABELS.

        Neighbours that differ in the statement alone are judged in one reading of the reply.
        """
        prompts = [
            nli_prompt(self._nli.style, character, [item[1] for item in group], query, response)
            for (character, query, response), group in groupby(items, itemgetter(0, 2, 3))
        ]
        return np.concatenate(self._nli.prompt_probabilities(prompts))

    def score(
        self, character: str, statements: Sequence[str], query: str, responses: Sequence[str]
    ) -> list[Score]:
        """The score of each response to the query against all statements."""
        return self.score_all(character, statements, [(query, response) for response in responses])

    def score_all(
        self, character: str, statements: Sequence[str], replies: Sequence[tuple[str, str]]
    ) -> list[Score]:
        """The score of each (query, response), batched over all of them."""
        distinct = list(dict.fromkeys(replies))
        prompts = [nli_prompt(self._nli.style, character, statements, q, r) for q, r in distinct]
        verdicts = self._nli.prompt_probabilities(prompts)
        found = {}
        for reply, verdict in zip(distinct, verdicts, strict=True):
            relevance = self.relevance(character, statements, reply[0])
            found[reply] = score_of(statements, relevance, verdict, self.sure_from)
        return [found[reply] for reply in replies]
