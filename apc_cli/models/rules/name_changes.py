"""The name of a place or a person exchanged for another."""

from collections.abc import Sequence
from dataclasses import dataclass

from apc_cli.models.rules.antecedents import gender_of
from apc_cli.models.rules.banks import Chooser, bank, words
from apc_cli.models.rules.pronouns import SHE
from apc_cli.models.rules.tokens import Token, sentence, word
from apc_cli.models.rules.verbs import base_form, is_noun

_MOVING = frozenset({"move", "go", "travel", "return", "come", "sail", "emigrate"})


@dataclass(frozen=True)
class Change:
    """A statement with one detail wrong, and how telling the detail is (0 is the best)."""

    text: str
    rank: int


def name_changes(tokens: Sequence[Token], chooser: Chooser) -> list[Change]:
    """Changes of the names of places and people."""
    found, index = [], 1
    while index < len(tokens):
        end = _name_end(tokens, index)
        if end == index:
            index += 1
            continue
        kind = _kind_of_name(tokens, index, end)
        if kind:
            text = chooser.pick(f"{kind}/{index}", bank("swaps")[kind])
            changed = [*tokens[:index], word(text, space=tokens[index].space), *tokens[end:]]
            found.append(Change(sentence(changed), 0 if kind == "places" else 1))
        index = end
    return found


def _name_end(tokens: Sequence[Token], index: int) -> int:
    end = index
    while end < len(tokens) and _is_proper(tokens[end]):
        end += 1
    return end


def _is_proper(token: Token) -> bool:
    capital = token.text[:1].isupper() and not token.name and not token.quoted
    return capital and token.low not in words("proper_words") | words("titles") | {"i", "bc", "ad"}


def _kind_of_name(tokens: Sequence[Token], start: int, end: int) -> str:
    before = tokens[start - 1].low
    follows = tokens[end].low if end < len(tokens) else ""
    if end - start > 1 or follows in {"'s", "and", "of"}:
        return ""
    moved = start > 1 and base_form(tokens[start - 2].low) in _MOVING
    if before in {"in", "from", "near"} or (before == "to" and moved):
        return "" if any(token.low == "and" for token in tokens[end : end + 3]) else "places"
    if end < len(tokens) and is_noun(tokens[end]):
        return ""
    kind = gender_of(tokens[start - 1])
    if kind is not None:
        return "women" if kind is SHE else "men"
    return "women" if before == "friend" else ""
