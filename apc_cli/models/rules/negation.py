"""A statement turned into its denial, or a denial turned into the plain statement."""

from collections.abc import Sequence

from apc_cli.models.rules.banks import words
from apc_cli.models.rules.predicates import coordinated, finite_after
from apc_cli.models.rules.pronouns import Pronouns
from apc_cli.models.rules.subjects import main_subject_index
from apc_cli.models.rules.tokens import Token, sentence, word
from apc_cli.models.rules.verbs import (
    MODALS,
    base_form,
    inflect,
    is_auxiliary,
    is_finite,
    is_noun,
    is_participle,
    is_past,
    is_plural_noun,
    is_third_person,
)

_PLAIN = {
    "isn't": "is",
    "wasn't": "was",
    "hasn't": "has",
    "doesn't": "does",
    "didn't": "did",
    "can't": "can",
    "cannot": "can",
    "couldn't": "could",
    "won't": "will",
}
_HELPERS = frozenset({"does", "did"})


def denials(tokens: Sequence[Token], own: Pronouns | None) -> list[str]:
    """Opposites of the main clause, at most one with "not" and one with "never"."""
    place = main_verb(tokens, own)
    if place is None:
        return []
    low = tokens[place].low
    following = tokens[place + 1].low if place + 1 < len(tokens) else ""
    if tokens[place - 1].low == "never":
        return [_replaced(tokens, place - 1, place, [] if is_past(low) else ["often"])]
    if following == "never":
        return [_replaced(tokens, place + 1, place + 2, [])]
    if low in _PLAIN or (is_auxiliary(low) and following == "not"):
        return [text for text in [_affirmed(tokens, place)] if text]
    hedges = words("adverbs") | {"no", "few", "only"}
    hedged = following in hedges or tokens[place - 1].low in words("adverbs")
    if coordinated(tokens, place, strict=False):
        return []
    found = [] if hedged else _not(tokens, place)
    return found + ([] if following in {"no", "few"} else _never(tokens, place))


def _not(tokens: Sequence[Token], place: int) -> list[str]:
    negated = _negated(tokens, place)
    return [_replaced(tokens, place, place + 1, negated)] if negated else []


def _never(tokens: Sequence[Token], place: int) -> list[str]:
    """From "Alice often plays", makes "Alice never plays"."""
    low = tokens[place].low
    if (is_auxiliary(low) and low not in {"was", "were", "has"}) or (
        base_form(low) in words("stative_verbs")
    ):
        return []
    if is_auxiliary(low):
        perfect = low != "has" or _is_perfect(tokens, place)
        return [_replaced(tokens, place + 1, place + 1, ["never"])] if perfect else []
    start = place
    while tokens[start - 1].low in words("adverbs"):
        start -= 1
    return [_replaced(tokens, start, place, ["never"])]


def main_verb(tokens: Sequence[Token], own: Pronouns | None) -> int | None:
    """The finite verb of the main clause, also behind "Alice's hair"."""
    subject = main_subject_index(tokens, own)
    if subject is not None:
        return finite_after(tokens, subject + 1)
    if len(tokens) < 4 or not tokens[0].name or not tokens[1].is_clitic:
        return None
    for index in range(3, min(9, len(tokens))):
        if not tokens[index].is_word:
            return None
        if is_finite(tokens[index].low) and is_noun(tokens[index - 1]):
            return index if not is_plural_noun(tokens[index].low) else None
    return None


def _negated(tokens: Sequence[Token], place: int) -> list[str]:
    low = tokens[place].low
    if low in {"has", "had"} and not _is_perfect(tokens, place):
        return ["does" if low == "has" else "did", "not", "have"]
    if low in MODALS or is_auxiliary(low):
        return ["cannot"] if low == "can" else [low, "not"]
    if is_third_person(low) and not is_past(low):
        return ["does", "not", base_form(low)]
    return ["did", "not", base_form(low)] if is_past(low) else []


def _is_perfect(tokens: Sequence[Token], place: int) -> bool:
    following = tokens[place + 1 : place + 4]
    return bool(following) and (
        any(token.low == "been" for token in following) or is_participle(following[0].low)
    )


def _affirmed(tokens: Sequence[Token], place: int) -> str:
    low = tokens[place].low
    plain = _PLAIN.get(low, low)
    end = place + 1 if low in _PLAIN else place + 2
    if plain in _HELPERS:
        if end >= len(tokens):
            return ""
        from_base = tokens[end].low
        return _replaced(tokens, place, end + 1, ["really", _finite_form(from_base, plain)])
    return _replaced(tokens, place, end, [plain])


def _finite_form(base: str, helper: str) -> str:
    return inflect(base, "VBZ" if helper == "does" else "VBD")


def _replaced(tokens: Sequence[Token], start: int, end: int, texts: Sequence[str]) -> str:
    put = [word(text) for text in texts]
    return sentence([*tokens[:start], *put, *tokens[end:]])
