"""What a chat completion holds: its text, the odds of its tokens, and the tokens it cost."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_PADDING = b" \t\r\n\"'`*_([{\xe2\x80\x9c\xe2\x80\x98"
_THOUGHT_END = b"</think>"


@dataclass(frozen=True)
class Failure:
    """An item for which no reply could be had, and why.

    Attributes:
        reason: what went wrong, for people.
        temporary: the same request may succeed later.
        stored: it is what a paid reply says; only another request can say something else.
    """

    reason: str
    temporary: bool = False
    stored: bool = field(default=False, compare=False)


@dataclass(frozen=True)
class Token:
    """A token of the reply as bytes, and the log-probability of each alternative to it."""

    text: bytes
    alternatives: tuple[tuple[bytes, float], ...]


@dataclass(frozen=True)
class Completion:
    """A reply; `tokens` is empty where the server gave no log-probabilities."""

    text: str
    tokens: tuple[Token, ...] = ()


@dataclass(frozen=True)
class Usage:
    """Tokens in and out; `cached` are those of the input that the server had read before."""

    input: int = 0
    output: int = 0
    cached: int = 0


def read_completion(raw: str) -> Completion | Failure | None:
    """The reply; a Failure when the model withheld or broke it off; None for garbage."""
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
    return Completion(content.encode("utf-8", "replace").decode(), _tokens(choice.get("logprobs")))


@dataclass(frozen=True)
class Choice:
    """One of several replies to a request; `cut` where it met the token limit."""

    text: str
    cut: bool = False


def read_choices(raw: str) -> list[Choice]:
    """Every reply that the server gave; one that was withheld is empty."""
    try:
        choices = json.loads(raw)["choices"]
        found = [(one["message"].get("content"), one.get("finish_reason")) for one in choices]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return []
    return [
        Choice(text.encode("utf-8", "replace").decode(), finish == "length")
        if isinstance(text, str) and finish != "content_filter"
        else Choice("")
        for text, finish in found
    ]


def usage_of(raw: str) -> Usage | None:
    """The tokens that the server says it counted; None when it says nothing of use."""
    try:
        usage = json.loads(raw)["usage"]
        tokens_in, tokens_out = int(usage["prompt_tokens"]), int(usage["completion_tokens"])
        details = usage.get("prompt_tokens_details") or {}
        cached = int(details.get("cached_tokens") or 0)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    return Usage(max(0, tokens_in), max(0, tokens_out), min(max(0, cached), max(0, tokens_in)))


def label_probabilities(
    tokens: Sequence[Token], label: str, words: Mapping[str, Sequence[str]]
) -> dict[str, float] | None:
    """P(label) for each label, from the alternatives where the reply's own label begins.

    Alternatives that begin no label, or several, are left out and the rest is scaled to one. None
    when the tokens do not show the label that was read from the text.

    Args:
        tokens: the reply's tokens.
        label: the label that the reply's text says.
        words: label → the words that a reply may say it with.
    """
    for token in _after_thoughts(tokens):
        if _label_begun(token.text, words) == label:
            mass = dict.fromkeys(words, 0.0)
            for text, logprob in token.alternatives:
                if begun := _label_begun(text, words):
                    mass[begun] += math.exp(min(0.0, logprob))
            total = sum(mass.values())
            return {name: value / total for name, value in mass.items()} if total > 0 else None
    return None


def _after_thoughts(tokens: Sequence[Token]) -> Sequence[Token]:
    """The tokens that follow a reasoning model's thoughts."""
    if _THOUGHT_END not in b"".join(token.text for token in tokens):
        return tokens
    seen = b""
    for number, token in enumerate(tokens):
        seen += token.text
        if _THOUGHT_END in seen:
            return tokens[number + 1 :]
    return ()


def _label_begun(text: bytes, words: Mapping[str, Sequence[str]]) -> str | None:
    """The only label of which the token is the beginning, or that the token begins with."""
    start = text.strip(_PADDING).lower()
    if not start:
        return None
    begun = {
        label
        for label, forms in words.items()
        for form in map(str.encode, forms)
        if form.startswith(start) or start.startswith(form)
    }
    return begun.pop() if len(begun) == 1 else None


def _tokens(logprobs: Any) -> tuple[Token, ...]:
    """The tokens of a reply's `logprobs`; none where the server gave none in a known form."""
    try:
        return tuple(
            Token(_bytes(entry), tuple((_bytes(a), float(a["logprob"])) for a in _choices(entry)))
            for entry in logprobs["content"]
        )
    except (LookupError, TypeError, ValueError, AttributeError):
        return ()


def _choices(entry: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The alternatives; a token without any would say that it was certain, which nobody knows."""
    if not entry["top_logprobs"]:
        raise ValueError("no alternatives")
    return entry["top_logprobs"]


def _bytes(token: Mapping[str, Any]) -> bytes:
    """A token may be a part of a character: its bytes say more than its text."""
    found = token.get("bytes")
    return bytes(found) if found is not None else token["token"].encode("utf-8", "replace")
