"""Words that point outside their sentence: pronouns and leads that nothing in it explains."""

from collections.abc import Sequence

from apc_cli.models.rules.antecedents import gender_of
from apc_cli.models.rules.banks import words
from apc_cli.models.rules.pronouns import HE, IT, SHE, Pronouns
from apc_cli.models.rules.subjects import bound_away, main_subject_index
from apc_cli.models.rules.tokens import Token, word
from apc_cli.models.rules.verbs import (
    is_adverb,
    is_auxiliary,
    is_clear_finite,
    is_finite,
    is_noun,
    is_plural_noun,
    parts_of_speech,
)

_THINGS = frozenset({"it", "its", "itself"})
_GROUPS = frozenset({"they", "them", "their", "theirs", "themselves"})
_POINTERS = frozenset({"this", "these", "those", "that", "such", "then"})
_DUMMY_NEXT = frozenset("is was rains snows seems takes".split())
_OPENING_NAMES = frozenset({"here", "one", "some", "others", "both", "another", "none"})


def drop_loose_words(tokens: Sequence[Token], own: Pronouns | None) -> list[Token]:
    """Leaves out "However,", "Since then,", "also" and a "there" that repeats a place."""
    kept = _without_lead(list(tokens), own)
    subject = main_subject_index(kept, own)
    if subject is not None:
        after = subject + 1
        while after < len(kept) and kept[after].low in {"also", "then", "however"}:
            kept.pop(after)
        if after + 1 < len(kept) and kept[after + 1].low == "also":
            kept.pop(after + 1)
    return [token for index, token in enumerate(kept) if not _is_loose_there(kept, index)]


def points_outside(tokens: Sequence[Token], own: Pronouns | None) -> bool:
    """Does some pronoun or "this ..." lack what it stands for?"""
    ours = own.forms() if own else frozenset()
    if (
        own
        and own is not IT
        and any(
            token.low == own.object
            and bound_away(tokens, index, own)
            and not _has_person(tokens[:index], own)
            for index, token in enumerate(tokens)
            if main_subject_index(tokens, own) is not None
        )
    ):
        return True
    return any(
        _is_unexplained(tokens, index)
        for index, token in enumerate(tokens)
        if token.low not in ours and not token.quoted
    )


def _without_lead(tokens: list[Token], own: Pronouns | None) -> list[Token]:
    subject = main_subject_index(tokens, own)
    comma = next((i for i, token in enumerate(tokens[:8]) if token.text == ","), None)
    if comma is None or comma + 1 >= len(tokens):
        return tokens
    lead = [token.low for token in tokens[:comma]]
    loose = len(lead) == 1 and lead[0] in words("loose_leads")
    pointing = subject is not None and subject == comma + 1 and bool(set(lead) & _POINTERS)
    phrase = " ".join(lead) in {"in addition", "as a result", "in turn", "at the same time"}
    return tokens[comma + 1 :] if loose or pointing or phrase else tokens


def _is_loose_there(tokens: Sequence[Token], index: int) -> bool:
    if tokens[index].low != "there" or index == 0 or index + 1 >= len(tokens):
        return False
    verbal = "VERB" in parts_of_speech(tokens[index - 1].low)
    explained = any(token.low in {"in", "at"} for token in tokens[:index])
    return verbal and not explained and tokens[index + 1].low in words("prepositions")


def _is_unexplained(tokens: Sequence[Token], index: int) -> bool:
    low = tokens[index].low
    before = tokens[:index]
    if low in _THINGS:
        part = index > 1 and low == "its" and tokens[index - 1].low == "of"
        return (part or not _has_thing(before)) and not _is_dummy(tokens, index)
    if low in _GROUPS:
        return not (any(is_plural_noun(token.low) for token in before) or _has_pair(before))
    if low in SHE.forms() | HE.forms():
        return not _has_person(before, SHE if low in SHE.forms() else HE)
    return _is_pointer(tokens, index)


def _has_thing(before: Sequence[Token]) -> bool:
    return any(_is_thing(before, index) for index in range(1, len(before)))


def _is_thing(tokens: Sequence[Token], index: int) -> bool:
    """Is there a noun at `index`, and not a word in the place of a verb?"""
    token, previous = tokens[index], tokens[index - 1]
    if token.low in words("function_words") or token.name:
        return False
    if token.text[:1].isupper():
        return True
    verbal = previous.name or previous.low == "to" or is_auxiliary(previous.low)
    noun = "NOUN" in parts_of_speech(token.low) and not is_clear_finite(token.low)
    return noun and not verbal and not is_adverb(token.low)


def _has_pair(before: Sequence[Token]) -> bool:
    """Are two names joined by "and"?"""
    return any(
        before[i].low == "and" and before[i - 1].text[:1].isupper() for i in range(1, len(before))
    )


def _is_dummy(tokens: Sequence[Token], index: int) -> bool:
    """Is it the "it" of "it is better to ..." or "finds it hard to"?"""
    following = tokens[index + 1].low if index + 1 < len(tokens) else ""
    return tokens[index].low == "it" and (
        following in _DUMMY_NEXT or "ADJ" in parts_of_speech(following)
    )


def _has_person(before: Sequence[Token], kind: Pronouns) -> bool:
    return any(
        gender_of(token) is kind
        or token.low in words("human_nouns")
        or (index > 0 and token.text[:1].isupper() and not token.name and is_noun(token))
        for index, token in enumerate(before)
    )


def _is_pointer(tokens: Sequence[Token], index: int) -> bool:
    low = tokens[index].low
    following = tokens[index + 1].low if index + 1 < len(tokens) else ""
    if index == 0 and (low in _OPENING_NAMES or low in {"this", "these", "that"}):
        return True
    if low in {"this", "these"} and not following.startswith("day"):
        return not _has_thing(tokens[:index])
    if low == "that" and index and is_finite(tokens[index - 1].low):
        noun = "NOUN" in parts_of_speech(following) and not is_plural_noun(following)
        saying = tokens[index - 1].low in words("saying_forms") or following in words(
            "function_words"
        )
        return noun and not saying
    return False


def thing_of(tokens: Sequence[Token], own: Pronouns | None) -> list[Token] | None:
    """The noun that a next sentence's "it" means, after "Alice owns an old van"."""
    subject = main_subject_index(tokens, own)
    if subject is None or subject + 3 >= len(tokens):
        return None
    if tokens[subject + 1].low not in {"owns", "has", "drives", "keeps", "rides", "runs"}:
        return None
    rest = [token for token in tokens[subject + 3 :] if token.is_word]
    if tokens[subject + 2].low not in {"a", "an"} or not 1 <= len(rest) <= 3:
        return None
    plain = all(parts_of_speech(token.low) & {"NOUN", "ADJ"} for token in rest)
    return rest if plain else None


def fill_it(tokens: Sequence[Token], thing: Sequence[Token], character: str) -> list[Token]:
    """From "It is red", with the van in mind, makes "Alice's old van is red"."""
    name = Token(character, space=False, name=True)
    return [name, word("'s", space=False), *thing, *tokens[1:]]


def is_it_sentence(tokens: Sequence[Token], own: Pronouns | None) -> bool:
    return bool(tokens) and tokens[0].low == "it" and own is not IT
