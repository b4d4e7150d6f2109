"""The files of the batch API: a line a request on the way in, a line a reply on the way out."""

import json
from collections.abc import Iterator
from typing import Any

from openai.types import Batch

from apc_cli.errors import ApcError, TryAgainLater
from apc_cli.models.llm.chat_endpoint import Endpoint
from apc_cli.models.llm.chat_outcomes import (
    Outcome,
    Refusal,
    one_line,
    outcome_of_body,
    outcome_of_refusal,
)
from apc_cli.models.llm.chat_replies import Failure

ENDED = ("completed", "failed", "expired", "cancelled")
"""The states that a batch does not leave."""

_MOST_LINES = 50_000
_MOST_BYTES = 150_000_000


def request_line(key: str, options: dict[str, Any]) -> str:
    """A line of a batch's input file."""
    request = {"custom_id": key, "method": "POST", "url": "/v1/chat/completions", "body": options}
    return json.dumps(request, ensure_ascii=False) + "\n"


def outcomes_in(text: str, endpoint: Endpoint, model: str) -> dict[str, Outcome]:
    """Key → outcome, from the lines of a batch's output or error file.

    What cannot be read is left out: its item is then missing, which is told.
    """
    found: dict[str, Outcome] = {}
    for line in filter(None, text.split("\n")):
        try:
            row = json.loads(line)
            found.setdefault(row["custom_id"], _outcome(row, endpoint, model))
        except (ValueError, LookupError, TypeError, AttributeError):
            continue
    return found


def _outcome(row: dict[str, Any], endpoint: Endpoint, model: str) -> Outcome:
    response, error = row.get("response"), row.get("error")
    if not response:
        words = one_line(endpoint.without_secret(str((error or {}).get("message"))))
        return Failure(f"not done by the batch: {words}", temporary=True)
    status, body = response["status_code"], response["body"]
    if status == 200:
        return outcome_of_body(json.dumps(body, ensure_ascii=False))
    return outcome_of_refusal(Refusal.of(status, body), endpoint, model)


def chunks(items: dict[str, str]) -> Iterator[dict[str, str]]:
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


def answered(batch: Batch) -> int:
    """How many lines the output and error files should have; 0 where the server does not say."""
    counts = batch.request_counts
    return (counts.completed or 0) + (counts.failed or 0) if counts else 0


def refused(batch: Batch, endpoint: Endpoint) -> ApcError:
    """Why a batch ended with nothing at all."""
    problems = batch.errors.data if batch.errors and batch.errors.data else []
    words = one_line(endpoint.without_secret("; ".join(str(p.message) for p in problems)))
    text = f"the batch at {endpoint.name} ended as {batch.status} with no reply: {words or '–'}"
    if batch.status != "failed" or any("limit" in str(p.code) for p in problems):
        return TryAgainLater(text)
    return ApcError(text, "set teacher.batch: false to ask one by one")
