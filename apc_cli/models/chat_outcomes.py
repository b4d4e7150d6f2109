"""What came of one request: a reply, or what to do about its absence."""

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import openai

from apc_cli.errors import ApcError, ConfigError, TryAgainLater
from apc_cli.models.chat_endpoint import KEY_VARIABLE, Endpoint

_QUOTA_CODES = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}
_OPTIONAL = ("max_completion_tokens", "max_tokens", "temperature")
_LONGEST_REASON = 200


@dataclass(frozen=True)
class Failure:
    """An item for which no reply could be had, and why."""

    reason: str


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
        unreadable: a reply came, but not a chat completion.
    """

    reason: str
    pause: float | None = None
    limited: bool = False
    unreadable: bool = False


@dataclass(frozen=True)
class Unsupported:
    """The server does not take this parameter."""

    parameter: str


@dataclass(frozen=True)
class Fatal:
    """No request can succeed."""

    error: ApcError


Outcome = Delivered | Transient | Unsupported | Failure | Fatal


def outcome_of_body(raw: str) -> Outcome:
    """Sorts the body of a 200 answer into chat completions and garbage."""
    if read_completion(raw) is None:
        return Transient("the server's reply is not a chat completion", unreadable=True)
    return Delivered(raw)


def read_completion(raw: str) -> str | Failure | None:
    """The reply's text; a Failure when the model withheld or broke it off; None for garbage."""
    try:
        choice = json.loads(raw)["choices"][0]
        message, finish = choice["message"], choice.get("finish_reason")
        content, refusal = message.get("content"), message.get("refusal")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    if finish == "content_filter":
        return Failure("the server's content filter withheld the reply")
    if refusal:
        return Failure("the model refused to answer")
    if finish == "length":
        return Failure("the reply was cut off at the token limit")
    if not isinstance(content, str) or not content.strip():
        return None
    return content.encode("utf-8", "replace").decode()


def outcome_of_error(error: openai.APIError, endpoint: Endpoint, model: str) -> Outcome:
    """Sorts an error by HTTP status and the server's own error code."""
    if isinstance(error, openai.APITimeoutError):
        return Transient("the connection timed out")
    if not isinstance(error, openai.APIStatusError):
        return Transient("the connection broke or could not be made")
    if fatal := _fatal(error, endpoint, model):
        return Fatal(fatal)
    status = error.status_code
    pause = retry_after(error.response.headers)
    if status == 429:
        return Transient("too many requests (HTTP 429)", pause, limited=True)
    if status in (408, 409) or status >= 500:
        return Transient(f"HTTP {status}", pause)
    if parameter := _unsupported(error):
        return Unsupported(parameter)
    return Failure(f"the server refused the request (HTTP {status}): {_quoted(error, endpoint)}")


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


def _fatal(error: openai.APIStatusError, endpoint: Endpoint, model: str) -> ApcError | None:
    """The server's own words are left out: on a rejected key they may repeat a part of it."""
    status = error.status_code
    if status in (401, 403):
        return ConfigError(
            f"{endpoint.name} refused the key in {KEY_VARIABLE} (HTTP {status})",
            f"check {KEY_VARIABLE}, and that its account may use {model}",
        )
    if status == 402 or any(code in _QUOTA_CODES for code in (error.code, error.type)):
        return TryAgainLater(
            f"the account at {endpoint.name} is out of quota",
            "check its billing, then run the same command again; stored replies are kept",
        )
    if status == 404:
        return ConfigError(
            f"{endpoint.name} does not know the model {model} at this address (HTTP 404)",
            "check teacher.model and teacher.base_url",
        )
    if 300 <= status < 400:
        return ConfigError(
            f"{endpoint.name} redirects to another address (HTTP {status})",
            "redirects are not followed; set teacher.base_url to the final address",
        )
    return None


def _unsupported(error: openai.APIStatusError) -> str | None:
    """The optional parameter that a 400 or 422 is about."""
    message = error.message.lower()
    blamed = error.code in ("unsupported_parameter", "unsupported_value")
    if not blamed and "unsupported" not in message and "not support" not in message:
        return None
    if error.param in _OPTIONAL:
        return error.param
    places = [(message.find(name), name) for name in _OPTIONAL if name in message]
    return min(places)[1] if places else None


def _quoted(error: openai.APIStatusError, endpoint: Endpoint) -> str:
    """The server's words on one line, without the key and without control characters."""
    body: Any = error.body
    words = body.get("message") if isinstance(body, Mapping) else body
    text = endpoint.without_secret(str(words or "no explanation"))
    printable = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(printable.split())[:_LONGEST_REASON]
