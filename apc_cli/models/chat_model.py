"""Many requests to an OpenAI-compatible chat model, each paid for at most once."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import openai

from apc_cli.errors import TryAgainLater
from apc_cli.models.chat_endpoint import endpoint_from_environment
from apc_cli.models.chat_gate import Gate, Patience
from apc_cli.models.chat_outcomes import (
    Delivered,
    Failure,
    Fatal,
    Outcome,
    Transient,
    Unsupported,
    outcome_of_body,
    outcome_of_error,
    read_completion,
)
from apc_cli.models.chat_requests import ChatRequest, Dialect, canonical_json, journal_key
from apc_cli.models.journal import Journal

Progress = Callable[[int, int], None]
"""Called with (items done, items in all)."""

_log = logging.getLogger(__name__)


@dataclass
class _Strikes:
    """What one item has cost so far."""

    failures: int = 0
    limits: int = 0
    unreadable: int = 0


class _Tally:
    """The answers so far, reported as progress."""

    def __init__(self, total: int, keys: Sequence[str], progress: Progress | None) -> None:
        self.answers: dict[str, str | Failure] = {}
        self._total = total
        self._weights: dict[str, int] = {}
        for key in keys:
            self._weights[key] = self._weights.get(key, 0) + 1
        self._done = 0
        self._progress = progress

    def add(self, key: str, answer: str | Failure) -> None:
        self.answers[key] = answer
        self._done += self._weights[key]
        if self._progress:
            self._progress(self._done, self._total)

    def explained(self, error: BaseException) -> BaseException:
        """The error, with how much is safe where the same command can go on from there."""
        if isinstance(error, TryAgainLater) and error.hint is None:
            replies = (key for key, answer in self.answers.items() if isinstance(answer, str))
            had = sum(self._weights[key] for key in replies)
            error.hint = f"{had} of {self._total} replies are stored; run again to go on"
        return error


class ChatModel:
    """A chat model whose replies are kept in a journal and never asked for twice."""

    def __init__(
        self,
        model: str,
        base_url: str | None,
        concurrency: int,
        journal: Journal,
        *,
        patience: Patience | None = None,
        insecure: bool = False,
    ) -> None:
        """Nothing is sent yet.

        Args:
            model: the server's name for the model.
            base_url: the server; None takes $OPENAI_BASE_URL, else OpenAI.
            concurrency: requests under way at once.
            journal: where replies are kept.
            patience: retries, time limits and when to give up.
            insecure: allow the key to travel over plain http to another machine.

        Raises:
            ConfigError: the key is missing or the address cannot be used.
        """
        self._model = model
        self._endpoint = endpoint_from_environment(base_url, insecure=insecure)
        self._concurrency = concurrency
        self._journal = journal
        self._patience = patience or Patience()
        self._dialect = Dialect()

    def complete_all(
        self, requests: Sequence[ChatRequest], progress: Progress | None = None
    ) -> list[str | Failure]:
        """The reply to each request in order, from the journal or else from the server.

        Raises:
            ConfigError: the server refuses the key, the model name or the address.
            TryAgainLater: quota, rate limit or a server that is down; what arrived is stored.
            ApcError: the journal cannot be written.
        """
        bodies = [canonical_json(self._model, request) for request in requests]
        keys = [journal_key(body) for body in bodies]
        tally = _Tally(len(requests), keys, progress)
        missing = {}
        for key, body in zip(keys, bodies, strict=True):
            if key in tally.answers or key in missing:
                continue
            stored = self._journal.get(key)
            if stored is None:
                missing[key] = body
            else:
                tally.add(key, _reply(stored))
        if missing:
            asyncio.run(self._ask_all(missing, tally))
        return [tally.answers[key] for key in keys]

    async def _ask_all(self, missing: dict[str, str], tally: _Tally) -> None:
        """Runs the workers; when one raises, the others finish only what is under way."""
        gate = Gate(self._patience, self._endpoint.name)
        queue = iter(missing.items())
        async with self._endpoint.client(self._patience.deadline) as client:
            workers = [
                asyncio.create_task(self._work(client, gate, queue, tally))
                for _ in range(min(self._concurrency, len(missing)))
            ]
            try:
                await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
            finally:
                gate.close()
                await _drain(workers, self._patience.drain)
        for worker in workers:
            if not worker.cancelled() and (error := worker.exception()):
                raise tally.explained(error)

    async def _work(
        self,
        client: openai.AsyncOpenAI,
        gate: Gate,
        queue: Iterator[tuple[str, str]],
        tally: _Tally,
    ) -> None:
        """Takes items from the queue until it is empty or an error ends the run."""
        try:
            for key, body in queue:
                answer = await self._settle(client, gate, key, body)
                if answer is None:
                    return
                tally.add(key, answer)
        except BaseException:
            gate.close()
            raise

    async def _settle(
        self, client: openai.AsyncOpenAI, gate: Gate, key: str, body: str
    ) -> str | Failure | None:
        """The item's reply, however many attempts it takes; None when the run is over."""
        strikes = _Strikes()
        while await gate.open():
            if (stored := self._journal.get(key)) is not None:
                return _reply(stored)  # another process was faster
            outcome = await self._attempt(client, body)
            match outcome:
                case Delivered():
                    return self._keep(gate, key, body, outcome.raw)
                case Failure():
                    gate.succeeded()
                    return outcome
                case Fatal():
                    raise outcome.error
                case Transient() if failure := await self._strike(strikes, outcome, gate):
                    return failure
        return None

    async def _strike(self, strikes: _Strikes, outcome: Transient, gate: Gate) -> Failure | None:
        """Waits as long as the outcome asks for; a Failure when the item has had its chances."""
        if outcome.limited:
            strikes.limits += 1
            gate.limited(strikes.limits, outcome.pause)
            return None
        strikes.failures += 1
        strikes.unreadable += outcome.unreadable
        gate.failed(outcome.reason, outcome.pause)
        given_up = strikes.failures >= self._patience.attempts
        if given_up or strikes.unreadable >= self._patience.unreadable:
            return Failure(f"{outcome.reason}, after {strikes.failures} attempts")
        await gate.back_off(strikes.failures)
        return None

    async def _attempt(self, client: openai.AsyncOpenAI, body: str) -> Outcome:
        """One request, and what came of it; a parameter found unsupported is not sent again."""
        dialect = self._dialect
        try:
            async with asyncio.timeout(self._patience.deadline):
                response = await client.chat.completions.with_raw_response.create(
                    **dialect.options(body)
                )
            outcome = outcome_of_body(response.text)
        except TimeoutError:
            outcome = Transient(f"no whole reply within {self._patience.deadline:g} s")
        except openai.APIError as error:
            outcome = outcome_of_error(error, self._endpoint, self._model)
        if isinstance(outcome, Unsupported):
            return self._adapt(dialect, outcome)
        return outcome

    def _adapt(self, used: Dialect, outcome: Unsupported) -> Outcome:
        """Gives the parameter up, unless the request did not even have it."""
        if not used.has(outcome.parameter):
            return Failure(f"the server does not support {outcome.parameter}, which was not sent")
        if self._dialect is used:
            self._dialect = used.without(outcome.parameter)
            _log.warning("%s does not take %s", self._model, outcome.parameter)
        return outcome

    def _keep(self, gate: Gate, key: str, body: str, raw: str) -> str | Failure:
        gate.succeeded()
        clean = self._endpoint.without_secret
        return _reply(self._journal.put(key, clean(body), clean(raw)))


def _reply(raw: str) -> str | Failure:
    answer = read_completion(raw)
    return Failure("the stored reply is not a chat completion") if answer is None else answer


async def _drain(workers: Sequence[asyncio.Task[None]], seconds: float) -> None:
    """Lets replies under way arrive and be stored, but not for ever."""
    await asyncio.wait(workers, timeout=seconds)
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
