"""Requests sent as batches: half the price, within a day, and never submitted twice.

What a batch holds is written to the journal before it is submitted, and the batch carries its name
as metadata. A run that was killed finds it again: by its id in the journal or, if the kill came
between the server's yes and the journal, by its name at the server.
"""

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import openai
from openai.types import Batch

from apc_cli.errors import ApcError, TryAgainLater
from apc_cli.models.chat_costs import BATCH_DISCOUNT, Meter
from apc_cli.models.chat_endpoint import Endpoint
from apc_cli.models.chat_estimates import likely_usage
from apc_cli.models.chat_gate import Gate, Patience
from apc_cli.models.chat_outcomes import (
    Delivered,
    Fatal,
    Outcome,
    Refusal,
    Transient,
    Unsupported,
    one_line,
    outcome_of_body,
    outcome_of_error,
    outcome_of_refusal,
)
from apc_cli.models.chat_replies import Completion, Failure
from apc_cli.models.chat_store import Store
from apc_cli.models.chat_terms import Terms

_MOST_LINES = 50_000
_MOST_BYTES = 150_000_000
_MOST_ROUNDS = 8
_ENDED = ("completed", "failed", "expired", "cancelled")
_OPEN, _ID, _DONE = "batch ", "batch id ", "batch done "
_LABEL = "apc"

_T = TypeVar("_T")
Deliver = Callable[[str, Completion | Failure], None]


@dataclass
class _Plan:
    """One batch: its name, and the items it holds."""

    name: str
    items: dict[str, str]


class BatchRun:
    """Asks for a number of items by batches, and waits for them."""

    def __init__(
        self, endpoint: Endpoint, terms: Terms, store: Store, meter: Meter, patience: Patience
    ) -> None:
        self._endpoint, self._terms, self._store, self._meter = endpoint, terms, store, meter
        self._patience = patience
        self._gate = Gate(patience, endpoint.name)
        self._rounds: dict[str, int] = {}

    async def ask_all(self, missing: dict[str, str], deliver: Deliver) -> None:
        """Collects the batches that hold these items, and submits those that none holds.

        Raises:
            ApcError: the server refuses the batch.
            TryAgainLater: a limit is reached; batches that were submitted go on.
        """
        async with self._endpoint.client(self._patience.deadline) as client:
            while missing:
                plans, limit = self._plans(missing)
                for plan in plans:
                    answers = await self._collect(client, plan)
                    for key, answer in answers.items():
                        if missing.pop(key, None) is not None:
                            deliver(key, answer)
                if limit:
                    raise limit

    def _plans(self, missing: dict[str, str]) -> tuple[list[_Plan], TryAgainLater | None]:
        """The open batches with any of these items, and new ones for the rest.

        A limit that is reached leaves items out; it is given back, to be raised at the end.
        """
        journal, plans = self._store.journal, []
        rest = dict(missing)
        for name in self._open_names():
            items = json.loads(journal.request(_OPEN + name) or "{}")
            if rest.keys() & items.keys():
                plans.append(_Plan(name, items))
                rest = {key: body for key, body in rest.items() if key not in items}
        admitted, limit = self._admitted(rest)
        serial = len(journal.names(_OPEN))
        for items in _chunks(admitted):
            text = json.dumps(items)
            name = hashlib.sha256(f"{serial} {self._endpoint.name} {text}".encode()).hexdigest()
            journal.put(_OPEN + name, self._store.clean(text), "planned", self._endpoint.name)
            plans.append(_Plan(name, items))
        return plans, limit

    def _open_names(self) -> Iterator[str]:
        journal = self._store.journal
        for key in journal.names(_OPEN):
            name = key.removeprefix(_OPEN)
            planned = not name.startswith(("id ", "done "))
            if planned and journal.get(_DONE + name) is None:
                yield name

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
        self, client: openai.AsyncOpenAI, plan: _Plan
    ) -> dict[str, Completion | Failure]:
        """Waits for a batch and stores what it brought; items to be asked again are left out."""
        batch = await self._submitted(client, plan)
        while batch.status not in _ENDED:
            await asyncio.sleep(self._patience.poll)
            batch = await self._call(lambda: client.batches.retrieve(batch.id))
        answers: dict[str, Completion | Failure] = {}
        seen: set[str] = set()
        dialect = self._terms.dialect
        for file in (batch.output_file_id, batch.error_file_id):
            if file:
                content = await self._call(lambda file=file: client.files.content(file))
                for key, outcome in _outcomes(content.text, self._endpoint, self._terms.model):
                    if key in plan.items and key not in seen:
                        seen.add(key)
                        body = plan.items[key]
                        if isinstance(outcome, Unsupported):
                            sent = dialect.options(body)
                            outcome = self._terms.adapt(dialect, sent, outcome)
                        if answer := self._settle(key, body, outcome):
                            answers[key] = answer
        if not seen:
            self._close(plan, batch.status)
            raise _refused(batch, self._endpoint)
        for key in plan.items.keys() - seen:
            reason = f"the batch is {batch.status} without this item"
            answers[key] = Failure(reason, temporary=True)
        self._close(plan, batch.status)
        return answers

    def _close(self, plan: _Plan, status: str) -> None:
        self._store.journal.put(_DONE + plan.name, "", status, self._endpoint.name)
        self._meter.landed(len(plan.items))

    def _settle(self, key: str, body: str, outcome: Outcome) -> Completion | Failure | None:
        """The item's answer; None when it is to be asked again."""
        match outcome:
            case Delivered():
                return self._store.keep(key, body, outcome.raw, BATCH_DISCOUNT)
            case Failure():
                return outcome
            case Fatal():
                raise outcome.error
        if isinstance(outcome, Transient) and outcome.unreadable is not None:
            self._store.keep_unreadable(key, body, outcome.unreadable)
        self._rounds[key] = self._rounds.get(key, 0) + 1
        allowed = self._patience.unreadable if isinstance(outcome, Transient) else _MOST_ROUNDS
        if self._rounds[key] >= allowed:
            reason = outcome.reason if isinstance(outcome, Transient) else "no dialect fits"
            return Failure(f"{reason}, in {self._rounds[key]} batches", temporary=True)
        return None

    async def _submitted(self, client: openai.AsyncOpenAI, plan: _Plan) -> Batch:
        """The batch at the server, submitted now unless it was before."""
        journal = self._store.journal
        if known := journal.get(_ID + plan.name):
            return await self._call(lambda: client.batches.retrieve(known))
        batch = await self._call(lambda: _found_or_created(client, plan, self._terms))
        journal.put(_ID + plan.name, "", batch.id, self._endpoint.name)
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
                raise ApcError(
                    f"{self._endpoint.name} does not know this batch, or no batches at all",
                    "set teacher.batch: false to ask one by one",
                ) from None
            except openai.APIError as error:
                outcome = outcome_of_error(error, self._endpoint, self._terms.model)
            if isinstance(outcome, Fatal):
                raise outcome.error
            if not isinstance(outcome, Transient):
                reason = getattr(outcome, "reason", str(outcome))
                raise ApcError(f"the batch API refused: {reason}", "set teacher.batch: false")
            if outcome.limited:
                self._gate.limited(attempt, outcome.pause)
            else:
                self._gate.failed(outcome.reason, outcome.pause)
                await self._gate.back_off(attempt)


async def _found_or_created(client: openai.AsyncOpenAI, plan: _Plan, terms: Terms) -> Batch:
    """A batch of this name that the server has already, else a new one."""
    async for batch in client.batches.list(limit=100):
        if (batch.metadata or {}).get(_LABEL) == plan.name:
            return batch
    lines = (_request_line(key, terms.dialect.options(body)) for key, body in plan.items.items())
    content = "".join(lines).encode()
    file = await client.files.create(file=(f"apc-{plan.name[:12]}.jsonl", content), purpose="batch")
    return await client.batches.create(
        input_file_id=file.id,
        endpoint="/v1/chat/completions",
        completion_window="24h",
        metadata={_LABEL: plan.name},
    )


def _request_line(key: str, options: dict[str, Any]) -> str:
    request = {"custom_id": key, "method": "POST", "url": "/v1/chat/completions", "body": options}
    return json.dumps(request, ensure_ascii=False) + "\n"


def _outcomes(text: str, endpoint: Endpoint, model: str) -> Iterator[tuple[str, Outcome]]:
    """(key, outcome) of each line of a batch's output or error file."""
    for line in filter(None, text.split("\n")):
        try:
            row = json.loads(line)
            key, response, error = row["custom_id"], row.get("response"), row.get("error")
            if response and response["status_code"] == 200:
                yield key, outcome_of_body(json.dumps(response["body"], ensure_ascii=False))
            elif response:
                refusal = Refusal.of(response["status_code"], response["body"])
                yield key, outcome_of_refusal(refusal, endpoint, model)
            else:
                words = one_line(endpoint.without_secret(str((error or {}).get("message"))))
                yield key, Failure(f"not done by the batch: {words}", temporary=True)
        except (ValueError, LookupError, TypeError, AttributeError):
            continue  # its item is then missing, which is told


def _chunks(items: dict[str, str]) -> Iterator[dict[str, str]]:
    """The items in parts that one batch can hold."""
    part: dict[str, str] = {}
    size = 0
    for key, body in items.items():
        length = len(body.encode()) + 500
        if part and (len(part) == _MOST_LINES or size + length > _MOST_BYTES):
            yield part
            part, size = {}, 0
        part[key] = body
        size += length
    if part:
        yield part


def _refused(batch: Batch, endpoint: Endpoint) -> ApcError:
    """Why a batch ended with nothing at all."""
    problems = batch.errors.data if batch.errors and batch.errors.data else []
    words = one_line(endpoint.without_secret("; ".join(str(p.message) for p in problems)))
    text = f"the batch at {endpoint.name} ended as {batch.status} with no reply: {words or '–'}"
    if batch.status != "failed" or any("limit" in str(p.code) for p in problems):
        return TryAgainLater(text)
    return ApcError(text, "set teacher.batch: false to ask one by one")
