"""Requests sent one by one, many at once: the workers of a run."""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import openai

from apc_cli.models.llm.chat_costs import Meter
from apc_cli.models.llm.chat_endpoint import Endpoint
from apc_cli.models.llm.chat_gate import Gate, Patience
from apc_cli.models.llm.chat_outcomes import (
    Delivered,
    Fatal,
    Outcome,
    Transient,
    Unsupported,
    outcome_of_body,
    outcome_of_error,
)
from apc_cli.models.llm.chat_replies import Completion, Failure
from apc_cli.models.llm.chat_store import Store
from apc_cli.models.llm.chat_terms import Terms

Deliver = Callable[[str, Completion | Failure], None]
"""Called with an item's key and what came of it."""


@dataclass
class _Strikes:
    """What one item has cost so far."""

    failures: int = 0
    limits: int = 0
    unreadable: int = 0


class OnlineRun:
    """Asks for a number of items with a limited number of requests under way."""

    def __init__(
        self,
        endpoint: Endpoint,
        terms: Terms,
        store: Store,
        meter: Meter,
        patience: Patience,
        concurrency: int,
    ) -> None:
        self._endpoint, self._terms, self._store, self._meter = endpoint, terms, store, meter
        self._patience, self._concurrency = patience, concurrency
        self._gate = Gate(patience, endpoint.name, concurrency)

    async def ask_all(self, missing: dict[str, str], deliver: Deliver) -> None:
        """Runs the workers; when one raises, the others finish only what is under way.

        A cancelled run has less time for that: whoever stops it is waiting.
        """
        queue = iter(missing.items())
        async with self._endpoint.client(self._patience.deadline) as client:
            workers = [
                asyncio.create_task(self._work(client, queue, deliver))
                for _ in range(min(self._concurrency, len(missing)))
            ]
            with _signals_as_cancellation():
                try:
                    await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
                    self._gate.close()
                    await asyncio.wait(workers, timeout=self._patience.deadline)
                finally:
                    self._gate.close()
                    await _drain(workers, self._patience.drain)
        for worker in workers:
            if not worker.cancelled() and (error := worker.exception()):
                raise error

    async def _work(
        self,
        client: openai.AsyncOpenAI,
        queue: Iterator[tuple[str, str]],
        deliver: Deliver,
    ) -> None:
        """Takes items from the queue until it is empty or an error ends the run."""
        try:
            for key, body in queue:
                answer = await self._settle(client, key, body)
                if answer is None:
                    return
                deliver(key, answer)
        except BaseException:
            self._gate.close()
            raise

    async def _settle(
        self, client: openai.AsyncOpenAI, key: str, body: str
    ) -> Completion | Failure | None:
        """The item's reply, however many attempts it takes; None when the run is over."""
        strikes = _Strikes()
        while await self._gate.open():
            if (stored := self._store.get(key)) is not None:
                return stored  # another process was faster
            outcome = await self._attempt(client, body)
            if isinstance(outcome, Transient):
                answer: Completion | Failure | None = await self._strike(
                    strikes, outcome, key, body
                )
            else:
                answer = await self._conclude(outcome, key, body)
            if answer:
                return answer
        return None

    async def _conclude(self, outcome: Outcome, key: str, body: str) -> Completion | Failure | None:
        """What the outcome means for the item; None when it is to be asked again at once."""
        match outcome:
            case Delivered():
                self._gate.succeeded()
                self._terms.served = True
                return await self._store.keep(key, body, outcome.raw)
            case Failure():
                self._gate.succeeded()
                return outcome
            case Fatal():
                if outcome.once_served and self._terms.served:
                    return outcome.once_served
                raise outcome.error
        return None

    async def _strike(
        self, strikes: _Strikes, outcome: Transient, key: str, body: str
    ) -> Failure | None:
        """Waits as long as the outcome asks for; a Failure when the item has had its chances."""
        if outcome.unreadable is not None:
            self._store.keep_unreadable(key, body, outcome.unreadable)
        if outcome.limited:
            strikes.limits += 1
            self._gate.limited(strikes.limits, outcome.pause)
            return None
        strikes.failures += 1
        strikes.unreadable += outcome.unreadable is not None
        self._gate.failed(outcome.reason, outcome.pause)
        given_up = strikes.failures >= self._patience.attempts
        if given_up or strikes.unreadable >= self._patience.unreadable:
            reason = f"{outcome.reason}, after {strikes.failures} attempts"
            return Failure(reason, temporary=True)
        await self._gate.back_off(strikes.failures)
        return None

    async def _attempt(self, client: openai.AsyncOpenAI, body: str) -> Outcome:
        """One request, and what came of it; a parameter found unsupported is not sent again."""
        dialect = self._terms.dialect
        options = dialect.options(body)
        self._meter.admit()
        try:
            async with asyncio.timeout(self._patience.deadline):
                response = await client.chat.completions.with_raw_response.create(**options)
            outcome = outcome_of_body(response.text)
        except TimeoutError:
            outcome = Transient(f"no whole reply within {self._patience.deadline:g} s")
        except openai.APIError as error:
            outcome = outcome_of_error(error, self._endpoint, self._terms.model)
        finally:
            self._meter.landed()
        if isinstance(outcome, Unsupported):
            return self._terms.adapt(dialect, options, outcome)
        return outcome


async def _drain(workers: Sequence[asyncio.Task[None]], seconds: float) -> None:
    """Lets replies under way arrive and be stored, but not for ever."""
    await asyncio.wait(workers, timeout=seconds)
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)


@contextmanager
def _signals_as_cancellation() -> Iterator[None]:
    """SIGTERM and SIGHUP end the run as Ctrl-C does, so that replies under way are stored.

    Afterwards the signal takes the course that it would have taken; a second one takes it at once.
    """
    task = asyncio.current_task()
    if task is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    loop, caught = asyncio.get_running_loop(), []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    before = {number: h for number, h in handlers.items() if h != signal.SIG_IGN}  # as under nohup

    def stop(number: int) -> None:
        restore()
        caught.append(number)
        task.cancel()

    def restore() -> None:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)

    for number in before:
        loop.add_signal_handler(number, stop, number)
    try:
        yield
    finally:
        if not caught:
            restore()
        else:
            signal.raise_signal(caught[0])
