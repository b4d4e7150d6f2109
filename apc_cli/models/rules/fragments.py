"""Lines that are no sentence, turned into one: "Age: 26" and "- loves cats"."""

import re

from apc_cli.models.rules.banks import bank, words
from apc_cli.models.rules.predicates import finite_after, skip_adverbs
from apc_cli.models.rules.tokens import Token, sentence, tokenise
from apc_cli.models.rules.verbs import is_third_person, parts_of_speech

_NUMBER = re.compile(r"^\d{1,3}$")
_PLURAL_KEY = re.compile(r"[^s]s$|&|\band\b")


def from_key_value(character: str, key: str, value: str) -> list[str]:
    """Sentences for one "Key: value" line."""
    value = value.rstrip(" .;")
    shapes = bank("keys")
    shape = shapes["keys"].get(key.lower())
    if key.lower() in shapes["aliases"]:
        shape = shapes["keys"][shapes["aliases"][key.lower()]]
    if shape == "age" and not _NUMBER.match(value):
        shape = "{name}'s age is {value}."
    elif shape == "age":
        shape = "{name} is {value} years old."
    if shape is None:
        verb = "are" if _PLURAL_KEY.search(key.lower()) or _is_list(value) else "is"
        shape = "{name}'s " + key.lower() + f" {verb} " + "{value}."
    spoken = _with_article(value) if "{a_value}" in shape else value
    return [shape.format(name=character, value=_listed(value), a_value=spoken)]


def from_fragment(character: str, line: str) -> str | None:
    """Puts the character before "loves cats" or "a guitarist from Lyon"; None if neither."""
    tokens = tokenise(line)
    first = skip_adverbs(tokens, 0)
    if first >= len(tokens):
        return None
    name = Token(character, space=False, name=True)
    rest = [Token(_lowered(tokens[0]), True), *tokens[1:]]
    if is_third_person(tokens[first].low) and "NOUN" not in parts_of_speech(tokens[first].low):
        return sentence([name, *rest])
    if finite_after(tokens, 0) == first and tokens[first].low in words("verby"):
        return sentence([name, *rest])
    if tokens[0].low in {"a", "an"} or _is_adjective_phrase(tokens):
        return sentence([name, Token("is"), *rest])
    return None


def _is_adjective_phrase(tokens: list[Token]) -> bool:
    kinds = parts_of_speech(tokens[0].low)
    follows = len(tokens) > 1 and tokens[1].low in words("prepositions")
    return "ADJ" in kinds and "NOUN" not in kinds and (follows or len(tokens) < 3)


def _lowered(token: Token) -> str:
    return token.text if token.text[1:].isupper() else token.text[:1].lower() + token.text[1:]


def _is_list(value: str) -> bool:
    return "," in value or " and " in value


def _listed(value: str) -> str:
    """From "a, b, c", makes "a, b and c"."""
    if "," not in value or " and " in value:
        return value
    head, _, last = value.rpartition(",")
    return f"{head.strip()} and {last.strip()}"


def _with_article(value: str) -> str:
    first = value.split()[0].lower()
    if first in {"a", "an", "the"}:
        return value
    lowered = value[:1].lower() + value[1:]
    return ("an " if lowered[0] in "aeiou" else "a ") + lowered
