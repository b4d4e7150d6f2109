"""Requests sent as batches: half the price, within a day, and never submitted twice.

What a batch holds is written to the journal before it is submitted, and the batch carries its name
as metadata. A run that was killed finds it again: by its id in the journal or, if the kill came
between the server's yes and the journal, by its name at the server.
"""

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable
from typing import TypeVar

import openai
from openai.types import Batch

from apc_cli.errors import ApcError, TryAgainLater
from apc_cli.models.llm.chat_batch_files import (
    ENDED,
    answered,
    chunks,
    outcomes_in,
    refused,
    request_line,
)
from apc_cli.models.llm.chat_batch_plans import DONE, ID, OPEN, Plan, open_plans
from apc_cli.models.llm.chat_costs import BATCH_DISCOUNT, Meter
from apc_cli.models.llm.chat_endpoint import Endpoint
from apc_cli.models.llm.chat_estimates import likely_usage
from apc_cli.models.llm.chat_gate import Gate, Patience
from apc_cli.models.llm.chat_outcomes import (
    Delivered,
    Fatal,
    Outcome,
    Transient,
    Unsupported,
    outcome_of_error,
)
from apc_cli.models.llm.chat_replies import Completion, Failure
from apc_cli.models.llm.chat_requests import Dialect
from apc_cli.models.llm.chat_store import Store
from apc_cli.models.llm.chat_terms import Terms

_MOST_ROUNDS = 8
_LABEL = "apc"

_T = TypeVar("_T")
Deliver = Callable[[str, Completion | Failure], None]


class _NotThere(ApcError):
    """The server knows no such batch."""


class _Refused(ApcError):
    """The server takes no batches, or not this one."""


class BatchRun:
    """Asks for a number of items by batches, and waits for them."""

    def __init__(
        self, endpoint: Endpoint, terms: Terms, store: Store, meter: Meter, patience: Patience
    ) -> None:
        self._endpoint, self._terms, self._store, self._meter = endpoint, terms, store, meter
        self._patience = patience
        self._gate = Gate(patience, endpoint.name)
        self._rounds: dict[str, int] = {}
        self._spoken: dict[str, Dialect] = {}

    async def ask_all(self, missing: dict[str, str], deliver: Deliver) -> None:
        """Collects the batches that hold these items, and submits those that none holds.

        Raises:
            ApcError: the server refuses the batch.
            TryAgainLater: a limit is reached; batches that were submitted go on.
        """
        async with self._endpoint.client(self._patience.deadline) as client:
            while missing:
                plans, limit = self._plans(missing)
                batches = [await self._submitted(client, plan) for plan in plans]
                for plan, batch in zip(plans, batches, strict=True):
                    answers = await self._collect(client, plan, batch)
                    for key, answer in answers.items():
                        if missing.pop(key, None) is not None:
                            deliver(key, answer)
                if limit:
                    raise limit

    def _plans(self, missing: dict[str, str]) -> tuple[list[Plan], TryAgainLater | None]:
        """The open batches with any of these items, and new ones for the rest.

        A limit that is reached leaves items out; it is given back, to be raised at the end.
        """
        journal, plans = self._store.journal, []
        rest = dict(missing)
        for plan in open_plans(journal, self._endpoint.name):
            if not rest.keys() & plan.items.keys():
                continue
            if journal.get(ID + plan.name) is None:  # nobody knows whether it was ever submitted
                _, limit = self._admitted(plan.items)
                if limit:
                    return plans, limit
            plans.append(plan)
            rest = {key: body for key, body in rest.items() if key not in plan.items}
        admitted, limit = self._admitted(rest)
        serial = len(journal.names(OPEN))
        for items in chunks(admitted):
            text = json.dumps(items)
            name = hashlib.sha256(f"{serial} {self._endpoint.name} {text}".encode()).hexdigest()
            self._note(OPEN + name, self._endpoint.name, self._store.clean(text))
            plans.append(Plan(name, items))
        return plans, limit

    def _note(self, key: str, text: str, request: str = "") -> None:
        self._store.journal.put(key, request, text, self._endpoint.name)

    def _admitted(self, items: dict[str, str]) -> tuple[dict[str, str], TryAgainLater | None]:
        """As many items as the limits allow."""
        admitted: dict[str, str] = {}
        for key, body in items.items():
            price = self._meter.price
            likely = price.of(likely_usage(body)) * BATCH_DISCOUNT if price else 0.0
            try:
                self._meter.admit(likely)
            except TryAgainLater as error:
                return admitted, error
            admitted[key] = body
        return admitted, None

    async def _collect(
        self, client: openai.AsyncOpenAI, plan: Plan, batch: Batch
    ) -> dict[str, Completion | Failure]:
        """Waits for a batch and stores what it brought; items to be asked again are left out."""
        number, pause = batch.id, min(1.0, self._patience.poll)
        while batch.status not in ENDED:
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, self._patience.poll)
            batch = await self._call(lambda: client.batches.retrieve(number))
        outcomes: dict[str, Outcome] = {}
        for file in (batch.output_file_id, batch.error_file_id):
            if file:
                content = await self._call(lambda file=file: client.files.content(file))
                outcomes |= outcomes_in(content.text, self._endpoint, self._terms.model)
        if len(outcomes) < answered(batch):
            raise TryAgainLater(
                f"{self._endpoint.name} gave only {len(outcomes)} of the {answered(batch)} replies "
                f"of batch {number} that can be read"
            )
        if not outcomes:
            self._close(plan, batch.status)
            raise refused(batch, self._endpoint)
        lost = Failure(f"the batch is {batch.status} without this item", temporary=True)
        dialect = self._spoken.get(plan.name)
        answers = await asyncio.gather(
            *(
                self._settle(key, body, outcomes.get(key, lost), dialect)
                for key, body in plan.items.items()
            )
        )
        self._close(plan, batch.status)
        return {key: answer for key, answer in zip(plan.items, answers, strict=True) if answer}

    def _close(self, plan: Plan, status: str) -> None:
        self._note(DONE + plan.name, status)
        self._meter.landed(len(plan.items))

    async def _settle(
        self, key: str, body: str, outcome: Outcome, dialect: Dialect | None
    ) -> Completion | Failure | None:
        """The item's answer; None when it is to be asked again.

        `dialect` is what its batch was written in, if this run wrote it.
        """
        if isinstance(outcome, Unsupported):
            outcome = self._adapted(body, outcome, dialect)
        match outcome:
            case Delivered():
                return await self._store.keep(key, body, outcome.raw, BATCH_DISCOUNT)
            case Failure():
                return outcome
            case Fatal():  # of one line, when the others have arrived and are paid for
                return Failure(str(outcome.error), temporary=True)
        if isinstance(outcome, Transient) and outcome.unreadable is not None:
            self._store.keep_unreadable(key, body, outcome.unreadable, BATCH_DISCOUNT)
        self._rounds[key] = self._rounds.get(key, 0) + 1
        allowed = self._patience.unreadable if isinstance(outcome, Transient) else _MOST_ROUNDS
        if self._rounds[key] >= allowed:
            reason = outcome.reason if isinstance(outcome, Transient) else "no dialect fits"
            return Failure(f"{reason}, in {self._rounds[key]} batches", temporary=True)
        return None

    def _adapted(self, body: str, outcome: Unsupported, dialect: Dialect | None) -> Outcome:
        """What a refused parameter means; an earlier run may have sent what is given up by now."""
        used = dialect or self._terms.dialect
        sent = used.options(body)
        if dialect is None and outcome.parameter not in sent:
            return outcome
        return self._terms.adapt(used, sent, outcome)

    async def _submitted(self, client: openai.AsyncOpenAI, plan: Plan) -> Batch:
        """The batch at the server, submitted now unless it was before."""
        if known := self._store.journal.get(ID + plan.name):
            try:
                return await self._call(lambda: client.batches.retrieve(known))
            except _NotThere:
                self._close(plan, "gone")
                raise
        dialect = self._terms.dialect
        try:
            batch, new = await self._call(lambda: _found_or_created(client, plan, dialect))
        except (_NotThere, _Refused):
            self._close(plan, "refused")
            raise
        if new:
            self._spoken[plan.name] = dialect
        self._note(ID + plan.name, batch.id)
        return batch

    async def _call(self, ask: Callable[[], Awaitable[_T]]) -> _T:
        """The answer of the batch API, retried as patience allows.

        Raises:
            ApcError: it refuses, or knows no batches at all.
        """
        attempt = 0
        while True:
            attempt += 1
            await self._gate.open()
            try:
                async with asyncio.timeout(self._patience.deadline):
                    found = await ask()
                self._gate.succeeded()
                return found
            except TimeoutError:
                outcome: Outcome = Transient("no answer in time")
            except openai.NotFoundError:
                raise _NotThere(
                    f"{self._endpoint.name} does not know this batch, or no batches at all",
                    "run again to submit it anew, or set teacher.batch: false to ask one by one",
                ) from None
            except (ValueError, AttributeError, TypeError):  # a 200 answer of another kind
                raise _Refused(
                    f"{self._endpoint.name} does not answer as the batch API does",
                    "set teacher.batch: false to ask one by one",
                ) from None
            except openai.APIError as error:
                outcome = outcome_of_error(error, self._endpoint, self._terms.model)
            await self._wait(outcome, attempt)

    async def _wait(self, outcome: Outcome, attempt: int) -> None:
        """Waits until the batch API may be asked again; raises where that is no use."""
        if isinstance(outcome, Fatal):
            raise outcome.error
        if not isinstance(outcome, Transient):
            reason = getattr(outcome, "reason", str(outcome))
            raise _Refused(f"the batch API refused: {reason}", "set teacher.batch: false")
        if outcome.limited:
            self._gate.limited(attempt, outcome.pause)
        else:
            self._gate.failed(outcome.reason, outcome.pause)
            await self._gate.back_off(attempt)


async def _found_or_created(
    client: openai.AsyncOpenAI, plan: Plan, dialect: Dialect
) -> tuple[Batch, bool]:
    """A batch of this name that the server has already, else a new one; and whether it is new."""
    async for batch in client.batches.list(limit=100):
        if (batch.metadata or {}).get(_LABEL) == plan.name:
            return batch, False
    lines = (request_line(key, dialect.options(body)) for key, body in plan.items.items())
    content = "".join(lines).encode()
    file = await client.files.create(file=(f"apc-{plan.name[:12]}.jsonl", content), purpose="batch")
    batch = await client.batches.create(
        input_file_id=file.id,
        endpoint="/v1/chat/completions",
        completion_window="24h",
        metadata={_LABEL: plan.name},
    )
    return batch, True
