"""One question to a chat model: what identifies it, and how a server wants it said."""

import hashlib
import json
import unicodedata
from dataclasses import dataclass, replace
from typing import Any

from apc_cli.records import Message


@dataclass(frozen=True)
class ChatRequest:
    """One question to the model; `sample_index` tells wanted repetitions of a question apart."""

    messages: tuple[Message, ...]
    temperature: float
    max_tokens: int
    sample_index: int = 0


@dataclass(frozen=True)
class Dialect:
    """The names under which a server takes the optional parameters; None leaves one out."""

    limit: str | None = "max_tokens"
    temperature: str | None = "temperature"

    def options(self, canonical: str) -> dict[str, Any]:
        """The request's parameters as the server wants them."""
        body = json.loads(canonical)
        values = {self.limit: body["max_tokens"], self.temperature: body["temperature"]}
        optional = {name: value for name, value in values.items() if name}
        return {"model": body["model"], "messages": body["messages"], **optional}

    def without(self, parameter: str) -> "Dialect":
        """The next thing to try where the server refuses `parameter`."""
        if parameter == "temperature":
            return replace(self, temperature=None)
        return replace(self, limit="max_completion_tokens" if parameter == "max_tokens" else None)

    def has(self, parameter: str) -> bool:
        """Whether requests carry the parameter."""
        return parameter in (self.limit, self.temperature)


def canonical_json(model: str, request: ChatRequest) -> str:
    """The request as JSON that is equal for equal requests; it is both hashed and sent."""
    body = {
        "model": model,
        "messages": [
            {name: _normal(text) for name, text in turn.items()} for turn in request.messages
        ],
        "temperature": float(request.temperature),
        "max_tokens": request.max_tokens,
        "sample_index": request.sample_index,
    }
    return json.dumps(body, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def journal_key(canonical: str) -> str:
    """The name under which the reply is kept; neither server nor secret is part of it."""
    return hashlib.sha256(canonical.encode()).hexdigest()


def _normal(text: str) -> str:
    """NFC, and free of lone surrogates, which no request can carry."""
    return unicodedata.normalize("NFC", text.encode("utf-8", "replace").decode())
