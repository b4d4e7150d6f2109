"""What came of one request: a reply, or what to do about its absence."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import openai

from apc_cli.errors import ApcError, ConfigError, TryAgainLater
from apc_cli.models.llm.chat_endpoint import Endpoint
from apc_cli.models.llm.chat_replies import Failure, read_completion
from apc_cli.models.llm.chat_requests import FURTHER, OPTIONAL

_QUOTA_CODES = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}
_TOO_LONG = ("context_length", "context length", "context window", "maximum context")
_COMPLAINTS = (
    "support",
    "not allowed",
    "not permitted",
    "unexpected",
    "unrecognized",
    "unknown",
    "invalid",
    "extra",
)
_NESTED = {"json_schema": "response_format", "json_object": "response_format"}
_LONGEST_REASON = 200


@dataclass(frozen=True)
class Delivered:
    """A chat completion, paid for: the raw body."""

    raw: str


@dataclass(frozen=True)
class Transient:
    """The same request may succeed later.

    Attributes:
        reason: what went wrong, for people.
        pause: seconds for which the server wants no request at all.
        limited: it is a rate limit, not a fault.
        unreadable: the body of a reply that is no chat completion.
    """

    reason: str
    pause: float | None = None
    limited: bool = False
    unreadable: str | None = None


@dataclass(frozen=True)
class Unsupported:
    """The server does not take this parameter."""

    parameter: str


@dataclass(frozen=True)
class Fatal:
    """No request can succeed.

    Attributes:
        error: ends the run.
        once_served: what it means for the item alone at a server that has answered others.
    """

    error: ApcError
    once_served: Failure | None = None


Outcome = Delivered | Transient | Unsupported | Failure | Fatal


def outcome_of_body(raw: str) -> Outcome:
    """Sorts the body of a 200 answer into chat completions and garbage."""
    if read_completion(raw) is None:
        return Transient("the server's reply is not a chat completion", unreadable=raw)
    return Delivered(raw)


@dataclass(frozen=True)
class Refusal:
    """An answer with an HTTP status other than 200, and what its body says of the reason."""

    status: int
    code: str | None = None
    kind: str | None = None
    parameter: str | None = None
    words: str = "no explanation"
    pause: float | None = None
    moderated: bool = False

    @classmethod
    def of(cls, status: int, body: Any, pause: float | None = None) -> "Refusal":
        """Reads an error body, which servers wrap in `error` or do not."""
        if isinstance(body, Mapping) and isinstance(body.get("error"), Mapping):
            body = body["error"]
        if not isinstance(body, Mapping):
            return cls(status, words=str(body or "no explanation"), pause=pause)
        code, kind, parameter = (
            str(body[name]) if body.get(name) else None for name in ("code", "type", "param")
        )
        words = str(body.get("message") or body.get("detail") or "no explanation")
        return cls(status, code, kind, parameter, words, pause, status == 403 and _moderated(body))


def outcome_of_error(error: openai.APIError, endpoint: Endpoint, model: str) -> Outcome:
    """Sorts what the client raises."""
    if isinstance(error, openai.APITimeoutError):
        return Transient("the connection timed out")
    if not isinstance(error, openai.APIStatusError):
        return Transient("the connection broke or could not be made")
    pause = retry_after(error.response.headers)
    return outcome_of_refusal(Refusal.of(error.status_code, error.body, pause), endpoint, model)


def outcome_of_refusal(refusal: Refusal, endpoint: Endpoint, model: str) -> Outcome:
    """Sorts a refusal by HTTP status and the server's own error code."""
    status = refusal.status
    parameter = _unsupported(refusal) if status in (400, 403, 422) else None
    if parameter:
        return Unsupported(parameter)
    words = one_line(endpoint.without_secret(refusal.words))
    if refusal.moderated:
        return Failure(f"the server's moderation refused the request (HTTP {status}): {words}")
    if fatal := _fatal(refusal, endpoint, model):
        alone = Failure(f"the server refused the request (HTTP {status})")
        return Fatal(fatal, alone if status == 403 else None)
    if status == 429:
        return Transient("too many requests (HTTP 429)", refusal.pause, limited=True)
    if status in (408, 409) or status >= 500:
        return Transient(f"HTTP {status}", refusal.pause)
    return Failure(f"the server refused the request (HTTP {status}): {words}")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server wants left in peace: from milliseconds, seconds or a date."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * unit
        except ValueError:
            continue
        return seconds if math.isfinite(seconds) and seconds >= 0 else None
    try:
        until = parsedate_to_datetime(headers.get("retry-after", "")).timestamp()
    except (ValueError, TypeError, OverflowError, OSError):
        return None
    return max(0.0, until - time.time())


def one_line(text: str) -> str:
    """A server's words on one line of bearable length, without control characters."""
    printable = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(printable.split())[:_LONGEST_REASON]


def _moderated(error: Mapping[str, Any]) -> bool:
    """Whether a refusal is about what the text says, as OpenRouter tells it."""
    metadata = error.get("metadata")
    return isinstance(metadata, Mapping) and bool(metadata.get("reasons"))


def _fatal(refusal: Refusal, endpoint: Endpoint, model: str) -> ApcError | None:
    """The server's own words are left out: on a rejected key they may repeat a part of it."""
    status = refusal.status
    if status in (401, 403):
        return ConfigError(
            f"{endpoint.name} refused the key in {endpoint.variable} (HTTP {status})",
            f"check {endpoint.variable}, and that its account may use {model}",
        )
    if status == 402 or any(code in _QUOTA_CODES for code in (refusal.code, refusal.kind)):
        return TryAgainLater(
            f"the account at {endpoint.name} is out of quota",
            "check its billing, then run the same command again; stored replies are kept",
        )
    if status == 404:
        return ConfigError(
            f"{endpoint.name} does not know the model {model} at this address (HTTP 404)",
            f"check {endpoint.section}.model and {endpoint.section}.base_url",
        )
    if 300 <= status < 400:
        return ConfigError(
            f"{endpoint.name} redirects to another address (HTTP {status})",
            f"redirects are not followed; set {endpoint.section}.base_url to the final address",
        )
    return None


def _unsupported(refusal: Refusal) -> str | None:
    """The optional parameter that a refusal is about; a text that is too long is another matter."""
    words = refusal.words.lower()
    if any(sign in f"{refusal.code} {words}" for sign in _TOO_LONG):
        return None
    if refusal.parameter in (*OPTIONAL, *FURTHER):
        return refusal.parameter
    if not any(complaint in words for complaint in _COMPLAINTS):
        return None
    names = {name: name for name in OPTIONAL} | _NESTED
    places = [(words.find(name), -len(name), name) for name in names if name in words]
    return names[min(places)[2]] if places else None
