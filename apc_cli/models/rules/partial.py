"""A statement with its last detail left out."""

from collections.abc import Sequence

from apc_cli.models.rules.banks import words
from apc_cli.models.rules.negation import main_verb
from apc_cli.models.rules.predicates import RELATIVES
from apc_cli.models.rules.pronouns import Pronouns
from apc_cli.models.rules.tokens import Token, sentence, strip_end
from apc_cli.models.rules.verbs import is_auxiliary, is_noun, is_participle, parts_of_speech

_LINKS = frozenset({"of", "to", "than", "like", "up", "out", "off", "over", "down"})
_NEGATIVE = frozenset("no not never few rarely without nothing nobody only seldom barely".split())


def partial(tokens: Sequence[Token], own: Pronouns | None) -> str:
    """The sentence cut before its last phrase or clause; nothing when no cut is safe."""
    kept = strip_end(tokens)
    verb = main_verb(kept, own)
    if verb is None or any(t.low in _NEGATIVE or "n't" in t.low for t in kept):
        return ""
    for index in range(len(kept) - 1, verb + 2, -1):
        if not _is_cut(kept, index) or not _has_object(kept, verb, index):
            continue
        text = sentence(kept[:index])
        return text if len(kept) - index >= 2 else ""
    return ""


def _is_cut(tokens: Sequence[Token], index: int) -> bool:
    """May the sentence end just before `index`?"""
    low, before = tokens[index].low, tokens[index - 1]
    if low in RELATIVES and before.text == ",":
        return True
    if low not in words("prepositions") or low in _LINKS or not before.is_word:
        return False
    if before.low in words("prepositions") | words("function_words"):
        return False
    return is_noun(before) and "VERB" not in parts_of_speech(before.low)


def _has_object(tokens: Sequence[Token], verb: int, end: int) -> bool:
    """Is there enough left that the verb does not miss anything?"""
    inner = [token for token in tokens[verb + 1 : end] if token.is_word]
    if any(token.low in RELATIVES or token.low == "that" for token in inner[:-1]):
        return False
    if is_auxiliary(tokens[verb].low) and tokens[verb].low not in {"has", "had"}:
        return len(inner) >= 2 and (is_participle(inner[0].low) or inner[0].low in {"a", "the"})
    return any(is_noun(token) for token in inner)
