"""Verb forms that go with "I" or "you" in place of a third person."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from apc_cli.models.rules.predicates import SUBORDINATORS, coordinated, finite_after, skip_adverbs
from apc_cli.models.rules.tokens import Token, word
from apc_cli.models.rules.verbs import (
    MODALS,
    PRESENT_AUX,
    SECOND_AUX,
    base_form,
    inflect,
    is_adverb,
    is_auxiliary,
    is_participle,
    is_third_person,
    parts_of_speech,
)


@dataclass(frozen=True)
class Person:
    """The words of the one who speaks, or is spoken to."""

    subject: str
    object: str
    possessive: str
    absolute: str
    reflexive: str
    be: str
    be_short: str


FIRST = Person("I", "me", "my", "mine", "myself", "am", "'m")
SECOND = Person("you", "you", "your", "yours", "yourself", "are", "'re")
_PLURAL_TO_FIRST = {"are": "am", "aren't": "am not", "were": "was", "weren't": "wasn't"}
_TO_SINGULAR = {
    "are": "is",
    "aren't": "isn't",
    "were": "was",
    "weren't": "wasn't",
    "have": "has",
    "haven't": "hasn't",
    "do": "does",
    "don't": "doesn't",
}
_CLAUSE_OPENERS = SUBORDINATORS - {"as", "before", "after", "since", "until", "so", "than"}
_HAS_FOLLOWERS = frozenset({"been", "had", "got", "always", "never", "since"})


def agree(tokens: list[Token], subject: int, person: Person, *, plural: bool) -> bool:
    """Changes, in place, every verb whose subject stands at `subject`; False when none is found."""
    if _agree_clitic(tokens, subject, person):
        first = subject + 1
    else:
        found = finite_after(tokens, subject + 1)
        if found is None:
            return _agree_inverted(tokens, subject, person, plural=plural)
        first = found
    verbs = [first, *coordinated(tokens, first, strict=False)]
    for place in verbs:
        changed = conjugate(tokens[place].low, person, plural=plural)
        if changed != tokens[place].low:
            tokens[place] = word(changed, space=tokens[place].space)
    return True


def conjugate(low: str, person: Person, *, plural: bool = False) -> str:
    """The form of one finite verb for the person; past forms and modals stay."""
    if plural and person is FIRST and low in _PLURAL_TO_FIRST:
        return _PLURAL_TO_FIRST[low]
    if person is SECOND and low in SECOND_AUX:
        return SECOND_AUX[low]
    if low in PRESENT_AUX:
        return PRESENT_AUX[low]
    if is_auxiliary(low) or plural:
        return low
    if is_third_person(low) or low.endswith("s"):
        return _base(low)
    return low


def singular_verbs(tokens: Sequence[Token]) -> list[Token]:
    """The predicate of a "they" that is one person, as it goes with the person's name."""
    changed = list(tokens)
    index, joined = skip_adverbs(changed, 0), True
    while index < len(changed) and changed[index].low not in _CLAUSE_OPENERS:
        low = changed[index].low
        if joined and (low in _TO_SINGULAR or _is_bare_verb(changed, index)):
            form = _TO_SINGULAR.get(low) or inflect(low, "VBZ")
            changed[index] = word(form, space=changed[index].space)
        joined = low in {"and", "but"} or (joined and is_adverb(low))
        index += 1
    return changed


def _is_bare_verb(tokens: Sequence[Token], index: int) -> bool:
    low = tokens[index].low
    if is_auxiliary(low) or "VERB" not in parts_of_speech(low) or base_form(low) != low:
        return False
    if any(token.low in MODALS for token in tokens[:index]):
        return False
    adverb = index > 0 and is_adverb(tokens[index - 1].low)
    return index == 0 or adverb or "NOUN" not in parts_of_speech(low)


def _base(low: str) -> str:
    head, dash, tail = low.rpartition("-")
    return head + dash + base_form(tail)


def _agree_clitic(tokens: list[Token], subject: int, person: Person) -> bool:
    """Handles "she's" and "they're"."""
    place = subject + 1
    if place >= len(tokens) or tokens[place].low not in {"'s", "'re", "'ve"}:
        return False
    following = tokens[place + 1].low if place + 1 < len(tokens) else ""
    clitic = tokens[place].low
    has = clitic == "'ve" or (clitic == "'s" and following in _HAS_FOLLOWERS)
    tokens[place] = replace(tokens[place], text="'ve" if has else person.be_short)
    return True


def _agree_inverted(tokens: list[Token], subject: int, person: Person, *, plural: bool) -> bool:
    """Handles "never has she seen"."""
    if subject == 0 or not is_auxiliary(tokens[subject - 1].low):
        return False
    place = subject - 1
    changed = conjugate(tokens[place].low, person, plural=plural)
    tokens[place] = word(changed, space=tokens[place].space)
    return True


def is_has_clitic(tokens: Sequence[Token], index: int) -> bool:
    """Is the 's at `index`, after a name, a verb ("Eve's a spy") and no possessive?"""
    if index + 1 >= len(tokens):
        return False
    following = tokens[index + 1].low
    if following in {"a", "an", "the", "not", "been"}:
        return True
    return following in {"always", "never"} and any(
        is_participle(token.low) for token in tokens[index + 2 : index + 3]
    )
