"""One question to a chat model: what identifies it, and how a server wants it said."""

import hashlib
import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from apc_cli.records import Message

_SCHEMA_NAME = "answer"
_FEWER_ALTERNATIVES = 5
_KNOWN_TO_CLIENT = ("n", "top_p", "seed")
"""Further parameters that the client has arguments for."""


@dataclass(frozen=True)
class ChatRequest:
    """One question to the model.

    Attributes:
        sample_index: tells wanted repetitions of a question apart.
        schema: the JSON schema of the reply, for servers that enforce one.
        top_logprobs: how many alternatives of each token the reply should come with; 0 for none.
        choices: how many replies are wanted; servers may give fewer.
        extra: further sampling parameters by the names that servers know them by.
    """

    messages: tuple[Message, ...]
    temperature: float
    max_tokens: int
    sample_index: int = 0
    schema: Mapping[str, Any] | None = None
    top_logprobs: int = 0
    choices: int = 1
    extra: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Dialect:
    """What a server takes: the names of optional parameters, and how much of what they ask for.

    Starts at what most servers take and steps down where one refuses (`without`).
    """

    limit: str | None = "max_tokens"
    temperature: bool = True
    structure: Literal["json_schema", "json_object"] | None = "json_schema"
    alternatives: int = 20
    dropped: frozenset[str] = frozenset()

    def options(self, canonical: str) -> dict[str, Any]:
        """The request's parameters as the server wants them."""
        body = json.loads(canonical)
        sent = {"model": body["model"], "messages": body["messages"]}
        if self.limit:
            sent[self.limit] = body["max_tokens"]
        if self.temperature:
            sent["temperature"] = body["temperature"]
        if "schema" in body and self.structure:
            sent["response_format"] = _response_format(self.structure, json.loads(body["schema"]))
        if wanted := min(body.get("top_logprobs", 0), self.alternatives):
            sent |= {"logprobs": True, "top_logprobs": wanted}
        further = {"n": body["n"]} if "n" in body else {}
        further |= body.get("extra", {})
        for name in further.keys() - self.dropped:
            place = sent if name in _KNOWN_TO_CLIENT else sent.setdefault("extra_body", {})
            place[name] = further[name]
        return sent

    def without(self, parameter: str) -> "Dialect":
        """The next thing to try where the server refuses `parameter`."""
        if parameter == "temperature":
            return replace(self, temperature=False)
        if parameter == "response_format":
            weaker = "json_object" if self.structure == "json_schema" else None
            return replace(self, structure=weaker)
        if parameter in FURTHER:
            return replace(self, dropped=self.dropped | {parameter})
        if parameter == "logprobs":
            return replace(self, alternatives=0)
        if parameter == "top_logprobs":
            fewer = _FEWER_ALTERNATIVES if self.alternatives > _FEWER_ALTERNATIVES else 0
            return replace(self, alternatives=fewer)
        return replace(self, limit="max_completion_tokens" if parameter == "max_tokens" else None)


FURTHER = ("repetition_penalty", "top_p", "min_p", "seed", "n")
"""Parameters of sampling alone; the last is too short to be found in a server's words."""

OPTIONAL = (
    *FURTHER[:-1],
    "max_completion_tokens",
    "max_tokens",
    "temperature",
    "response_format",
    "top_logprobs",
    "logprobs",
)
"""Parameters that a server may refuse; where one name holds another, the longer comes first."""


def canonical_json(model: str, request: ChatRequest) -> str:
    """The request as JSON that is equal for equal requests; it is both hashed and sent."""
    body: dict[str, Any] = {
        "model": model,
        "messages": [
            {name: _normal(text) for name, text in turn.items()} for turn in request.messages
        ],
        "temperature": float(request.temperature),
        "max_tokens": request.max_tokens,
        "sample_index": request.sample_index,
    }
    if request.schema is not None:
        # As text, unsorted: models write an object's properties in the order of its schema.
        body["schema"] = json.dumps(request.schema, ensure_ascii=False)
    if request.top_logprobs:
        body["top_logprobs"] = request.top_logprobs
    if request.choices > 1:
        body["n"] = request.choices
    if request.extra:
        body["extra"] = dict(request.extra)
    return json.dumps(body, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def journal_key(canonical: str) -> str:
    """The name under which the reply is kept; neither server nor secret is part of it."""
    return hashlib.sha256(canonical.encode()).hexdigest()


def _response_format(structure: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    if structure == "json_object":
        return {"type": "json_object"}
    named = {"name": _SCHEMA_NAME, "strict": True, "schema": schema}
    return {"type": "json_schema", "json_schema": named}


def _normal(text: str) -> str:
    """NFC, and free of lone surrogates, which no request can carry."""
    return unicodedata.normalize("NFC", text.encode("utf-8", "replace").decode())
