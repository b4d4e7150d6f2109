"""Capitals at the start of a clause."""

import re

from apc_cli.models.rules.banks import words
from apc_cli.models.rules.verbs import is_known

_FIRST = re.compile(r"^[\"“']?([\w’'-]+)")


def lower_first(text: str) -> str:
    """The clause as it stands after a lead-in: names, I and acronyms keep their capital."""
    match = _FIRST.match(text)
    if match is None or _keeps_capital(match[1], text[match.end() :]):
        return text
    return text[: match.start(1)] + text[match.start(1)].lower() + text[match.start(1) + 1 :]


def upper_first(text: str) -> str:
    return text[:1].upper() + text[1:]


def _keeps_capital(first: str, rest: str) -> bool:
    head = re.split(r"['’-]", first)[0]
    if head == "I" or (len(head) > 1 and head[1:].lower() != head[1:]):
        return True
    if head.lower() in words("titles") or head.lower() in words("proper_words"):
        return True
    if head.lower() in words("function_words"):
        return False
    return not is_known(head.lower()) or bool(re.match(r" [A-Z]\w", rest))
