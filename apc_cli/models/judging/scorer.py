"""Two discriminators and the formulas: the APC score of replies (paper section 3)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from operator import itemgetter

import numpy as np

from apc_cli.errors import ConfigError
from apc_cli.models.judging.cores import side_by_side
from apc_cli.models.judging.discriminator import Discriminator
from apc_cli.models.judging.embedder import Embedder
from apc_cli.models.judging.relevance_cache import RelevanceCache
from apc_cli.models.judging.statement_filter import NearestStatements
from apc_cli.models.score_records import score_of
from apc_cli.prompts import Prompt, nli_prompt, relevance_prompt
from apc_cli.records import NLI_LABELS, RELEVANCE_LABELS, Score

_YES = RELEVANCE_LABELS.index("yes")
_NEUTRAL = np.eye(len(NLI_LABELS))[NLI_LABELS.index("neutral")]
_REMEMBERED_QUERIES = 10_000
_Wanted = tuple[dict[str, float], list[str], Prompt]
"""What is known of a query, the statements that are missing, and the prompt that asks for them."""


class Scorer:
    """Scores replies with one pair of discriminators; relevance is computed once per query."""

    def __init__(
        self,
        relevance: Discriminator,
        nli: Discriminator,
        cache: RelevanceCache | None = None,
        nearest: NearestStatements | None = None,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        """`cache` keeps relevance on disk; it is for classifiers, whose texts stand alone.

        With `nearest`, only the statements that it chooses for a reply are judged. `weights` says
        how much a statement counts, where that is not 1.
        """
        self._relevance, self._nli = relevance, nli
        self._cache, self._nearest, self._weights = cache, nearest, weights or {}
        self._known: dict[tuple[str, str], dict[str, float]] = {}

    @classmethod
    def load(
        cls,
        *,
        relevance: str,
        nli: str,
        language: str = "en",
        device: str = "auto",
        dtype: str = "auto",
        cached: bool = False,
        cache_before: float | None = None,
        nearest: float = 1.0,
        weights: Mapping[str, float] | None = None,
    ) -> "Scorer":
        """A scorer from two model references (hub id, directory, `package:`, `judge:`).

        `dtype` is a torch format, or `auto`: the fastest that agrees with float32. `cached` keeps a
        classifier's relevance on disk; what was kept after `cache_before` (seconds since 1970) is
        not read, so that scorers of one run find the same. `nearest` is the share of a persona's
        statements that is judged for a reply; 1 is all of them.

        Raises:
            ConfigError: the discriminators cannot read the language.
        """
        judges = {
            name: Discriminator.load(name, labels=labels, device=device, dtype=dtype)
            for name, labels in ((relevance, RELEVANCE_LABELS), (nli, NLI_LABELS))
        }
        for name, judge in judges.items():
            known = judge.description.languages
            if known and language not in known:
                raise ConfigError(
                    f"{name} reads only {', '.join(known)}, not {language}",
                    "name a multilingual discriminator in the configuration",
                )
        cache = None
        if cached and judges[relevance].reads_together:
            cache = RelevanceCache(judges[relevance].fingerprint, cache_before)
        chosen = NearestStatements(nearest, Embedder(device=device)) if nearest < 1 else None
        return cls(judges[relevance], judges[nli], cache, chosen, weights)

    @property
    def sure_from(self) -> tuple[float, float]:
        """How probable a label of relevance and of NLI must be for its verdict to be sure."""
        return self._relevance.description.sure_from, self._nli.description.sure_from

    def relevance(self, character: str, statements: Sequence[str], query: str) -> np.ndarray:
        """P_g of each statement, shape (statements,)."""
        known = self._learn(character, statements, [query])[query]
        return np.array([known[s] for s in statements])

    def _learn(
        self, character: str, statements: Sequence[str], queries: Sequence[str]
    ) -> dict[str, dict[str, float]]:
        """The relevance of each query's statements."""
        learned, wanted = self._known_of(character, statements, queries)
        self._complete(wanted)
        return learned

    def _known_of(
        self, character: str, statements: Sequence[str], queries: Sequence[str]
    ) -> tuple[dict[str, dict[str, float]], list[_Wanted]]:
        """What is known of each query, and what is missing there."""
        if len(self._known) > _REMEMBERED_QUERIES:
            self._known = {}
        learned: dict[str, dict[str, float]] = {}
        wanted: list[_Wanted] = []
        for query in dict.fromkeys(queries):
            known = learned[query] = self._known.setdefault((character, query), {})
            if new := [s for s in dict.fromkeys(statements) if s not in known]:
                prompt = relevance_prompt(self._relevance.style, character, new, query)
                wanted.append((known, new, prompt))
        return learned, self._remembered(wanted, self._cache) if self._cache else wanted

    def _complete(self, wanted: Sequence[_Wanted]) -> None:
        """Asks for what is missing, in one go where that is faster and changes nothing."""
        judge = self._relevance
        size = len(wanted) if judge.reads_together or judge.reads_apart else 1
        for start in range(0, len(wanted), max(1, size)):
            part = wanted[start : start + size]
            answers = judge.prompt_probabilities([prompt for _, _, prompt in part])
            for (known, new, _), answer in zip(part, answers, strict=True):
                known.update(zip(new, answer[:, _YES].tolist(), strict=True))
            if self._cache:  # at once: processes that write wait for one another
                texts = [text for _, _, prompt in part for text in prompt.branches]
                self._cache.add(texts, np.concatenate(answers)[:, _YES].tolist())

    def _remembered(self, wanted: list[_Wanted], cache: RelevanceCache) -> list[_Wanted]:
        """Takes what the cache has, and returns what it has not."""
        there = cache.find([text for _, _, prompt in wanted for text in prompt.branches])
        left = []
        for known, statements, prompt in wanted:
            pairs = list(zip(statements, prompt.branches, strict=True))
            known.update({s: there[text] for s, text in pairs if text in there})
            if missing := [(s, text) for s, text in pairs if text not in there]:
                new, texts = zip(*missing, strict=True)
                left.append((known, list(new), Prompt(prompt.prefix, texts)))
        return left

    def for_shard(self) -> "Scorer":
        """A scorer whose scores depend on nothing that was scored before.

        Texts that are read together change each other's last bits, so relevance is not remembered
        from one shard to the next, unless each query was read alone. Shards then have the same
        scores wherever, whenever and in whatever order they are scored, and on threads, too.
        """
        if not self._relevance.reads_together:
            return self
        return Scorer(self._relevance, self._nli, self._cache, self._nearest, self._weights)

    @property
    def truncated(self) -> int:
        """How many inputs were longer than a discriminator reads, so far."""
        return self._relevance.network.truncated + self._nli.network.truncated

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
        if self._nearest:
            return self._score_nearest(character, tuple(statements), replies, self._nearest)
        distinct = list(dict.fromkeys(replies))
        queries = [query for query, _ in distinct]
        learned, wanted = self._known_of(character, statements, queries)
        prompts = [nli_prompt(self._nli.style, character, statements, *one) for one in distinct]
        verdicts = self._verdicts(wanted, prompts)
        found = {}
        for reply, verdict in zip(distinct, verdicts, strict=True):
            relevance = np.array([learned[reply[0]][s] for s in statements])
            found[reply] = self._score(statements, relevance, verdict)
        return [found[reply] for reply in replies]

    def _verdicts(self, wanted: Sequence[_Wanted], prompts: Sequence[Prompt]) -> list[np.ndarray]:
        """What the NLI judge says; meanwhile or before, what is missing of relevance is asked."""
        verdicts = partial(self._nli.prompt_probabilities, prompts)
        apart = self._relevance.reads_apart and self._nli.reads_apart
        if apart and len(wanted) == len(prompts) == 1:  # more of a kind fill the cores themselves
            [found, _] = side_by_side([verdicts, partial(self._complete, wanted)])  # longest first
            return found
        self._complete(wanted)
        return verdicts()

    def _score_nearest(
        self,
        character: str,
        statements: tuple[str, ...],
        replies: Sequence[tuple[str, str]],
        nearest: NearestStatements,
    ) -> list[Score]:
        """Scores with the chosen statements judged, the others irrelevant and left alone."""
        chosen = {reply: nearest.choose(statements, *reply) for reply in dict.fromkeys(replies)}
        prompts = [
            nli_prompt(self._nli.style, character, [statements[i] for i in indices], *reply)
            for reply, indices in chosen.items()
        ]
        answers = self._nli.prompt_probabilities(prompts)
        found: dict[tuple[str, str], Score] = {}
        for (reply, indices), answer in zip(chosen.items(), answers, strict=True):
            relevance, verdicts = np.zeros(len(statements)), np.tile(_NEUTRAL, (len(statements), 1))
            judged = [statements[i] for i in indices]
            relevance[indices] = self.relevance(character, judged, reply[0])
            verdicts[indices] = answer
            score, there = self._score(statements, relevance, verdicts), set(indices)
            constraints = tuple(
                replace(c, sure=c.sure and i in there) for i, c in enumerate(score.constraints)
            )
            found[reply] = replace(score, judged=len(indices), constraints=constraints)
        return [found[reply] for reply in replies]

    def _score(
        self, statements: Sequence[str], relevance: np.ndarray, verdict: np.ndarray
    ) -> Score:
        return score_of(statements, relevance, verdict, self.sure_from, self._weights)
