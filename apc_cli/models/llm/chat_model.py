"""Many requests to an OpenAI-compatible chat model, each paid for at most once."""

import asyncio
from collections.abc import Callable, Sequence

from apc_cli.errors import TryAgainLater
from apc_cli.models.llm.chat_batch import BatchRun
from apc_cli.models.llm.chat_batch_plans import check_none_in_batch
from apc_cli.models.llm.chat_costs import Meter
from apc_cli.models.llm.chat_endpoint import Endpoint, endpoint_from_environment
from apc_cli.models.llm.chat_gate import Patience
from apc_cli.models.llm.chat_online import OnlineRun
from apc_cli.models.llm.chat_replies import Choice, Completion, Failure
from apc_cli.models.llm.chat_requests import ChatRequest, canonical_json, journal_key
from apc_cli.models.llm.chat_store import Store
from apc_cli.models.llm.chat_terms import Terms
from apc_cli.models.llm.journal import Journal

Progress = Callable[[int, int], None]
"""Called with (items done, items in all)."""


class _Tally:
    """The answers so far, reported as progress."""

    def __init__(self, total: int, keys: Sequence[str], progress: Progress | None) -> None:
        self.answers: dict[str, Completion | Failure] = {}
        self._total = total
        self._weights: dict[str, int] = {}
        for key in keys:
            self._weights[key] = self._weights.get(key, 0) + 1
        self._done = 0
        self._progress = progress

    def add(self, key: str, answer: Completion | Failure) -> None:
        self.answers[key] = answer
        self._done += self._weights[key]
        if self._progress:
            self._progress(self._done, self._total)

    def explain(self, error: TryAgainLater) -> None:
        """Adds how much is safe where the same command can go on from there."""
        if error.hint is None:
            replies = (key for key, a in self.answers.items() if isinstance(a, Completion))
            had = sum(self._weights[key] for key in replies)
            error.hint = f"{had} of {self._total} replies are stored; run again to go on"


class ChatModel:
    """A chat model whose replies are kept in a journal and never asked for twice.

    Attributes:
        meter: what has been asked and paid for.
    """

    def __init__(
        self,
        model: str,
        base_url: str | None,
        concurrency: int,
        journal: Journal,
        *,
        patience: Patience | None = None,
        insecure: bool = False,
        endpoint: Endpoint | None = None,
        meter: Meter | None = None,
        batch: bool = False,
    ) -> None:
        """Nothing is sent yet.

        Args:
            model: the server's name for the model.
            base_url: the server; None takes $OPENAI_BASE_URL, else OpenAI.
            concurrency: requests under way at once.
            journal: where replies are kept.
            patience: retries, time limits and when to give up.
            insecure: allow the key to travel over plain http to another machine.
            endpoint: the server, in place of what `base_url` says.
            meter: counts requests and dollars, and limits them.
            batch: send everything as batches, which cost half and may take a day.

        Raises:
            ConfigError: the key is missing or the address cannot be used.
        """
        self.meter = meter or Meter()
        self._model, self._concurrency, self._batch = model, concurrency, batch
        self._endpoint = endpoint or endpoint_from_environment(base_url, insecure=insecure)
        self._store = Store(journal, self._endpoint, self.meter)
        self._patience = patience or Patience()
        self._terms = Terms(model)

    def complete_all(
        self, requests: Sequence[ChatRequest], progress: Progress | None = None
    ) -> list[Completion | Failure]:
        """The reply to each request in order, from the journal or else from the server.

        Raises:
            ConfigError: the server refuses the key, the model name or the address; or an open
                batch holds some of the replies, and this is to be no batch.
            TryAgainLater: a limit, the quota, or a server that is down; what arrived is stored.
            ApcError: the journal cannot be written.
        """
        bodies = [canonical_json(self._model, request) for request in requests]
        keys = [journal_key(body) for body in bodies]
        tally = _Tally(len(requests), keys, progress)
        missing = {}
        for key, body in zip(keys, bodies, strict=True):
            if key in tally.answers or key in missing:
                continue
            stored = self._store.get(key)
            if stored is None:
                missing[key] = body
            else:
                self.meter.count.stored += 1
                tally.add(key, stored)
                self._terms.served |= isinstance(stored, Completion)
        if missing:
            if not self._batch:
                check_none_in_batch(missing, self._store.journal, self._endpoint.name)
            try:
                asyncio.run(self._run().ask_all(missing, tally.add))
            except TryAgainLater as error:
                tally.explain(error)
                raise
        return [tally.answers[key] for key in keys]

    def choices_all(
        self, requests: Sequence[ChatRequest], progress: Progress | None = None
    ) -> list[list[Choice] | Failure]:
        """The replies to each request, as many as the server gave, cut off ones among them.

        Raises as `complete_all` does.
        """
        answers = self.complete_all(requests, progress)
        keys = [journal_key(canonical_json(self._model, request)) for request in requests]
        found: list[list[Choice] | Failure] = []
        for key, answer in zip(keys, answers, strict=True):
            unanswered = isinstance(answer, Failure) and not answer.stored
            found.append(answer if unanswered else self._store.choices(key))  # type: ignore[arg-type]
        return found

    def news_of_terms(self) -> list[str]:
        """Sentences on parameters that the server was found not to take since the last call."""
        refused, self._terms.refused = self._terms.refused, []
        return [f"{self._model} does not take {name} as asked: adapted" for name in refused]

    def _run(self) -> OnlineRun | BatchRun:
        common = (self._endpoint, self._terms, self._store, self.meter, self._patience)
        return BatchRun(*common) if self._batch else OnlineRun(*common, self._concurrency)
