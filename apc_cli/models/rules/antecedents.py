"""Whether a third-person pronoun stands for the character or for someone else."""

from collections.abc import Sequence

from apc_cli.models.rules.banks import words
from apc_cli.models.rules.predicates import RELATIVES, SUBORDINATORS
from apc_cli.models.rules.pronouns import HE, IT, SHE, Pronouns
from apc_cli.models.rules.subjects import main_subject_index
from apc_cli.models.rules.tokens import Token
from apc_cli.models.rules.verbs import (
    base_form,
    inflect,
    is_adverb,
    is_finite,
    is_noun,
    is_plural_noun,
    parts_of_speech,
)


def gender_of(token: Token) -> Pronouns | None:
    """The pronouns of a noun such as "mother"; None when it tells nothing."""
    if token.low in words("female_nouns"):
        return SHE
    return HE if token.low in words("male_nouns") else None


def main_subject(tokens: Sequence[Token], own: Pronouns | None) -> str:
    """Who the sentence is about: "self", "rival" (may bear the same pronouns) or "other"."""
    if main_subject_index(tokens, own) is not None:
        return "self"
    verb = next((i for i in range(1, len(tokens)) if _is_verb(tokens, i)), len(tokens))
    start = _after_lead(tokens, verb)
    head = tokens[start:verb]
    rival = any(gender_of(token) is own or _is_stranger(token, i) for i, token in enumerate(head))
    return "rival" if own and head and rival else "other"


def _is_verb(tokens: Sequence[Token], index: int) -> bool:
    plural = is_plural_noun(tokens[index - 1].low)
    low = tokens[index].low
    return is_finite(low) or (plural and "VERB" in parts_of_speech(low))


def is_own(tokens: Sequence[Token], index: int, own: Pronouns, subject: str) -> bool:
    """Does the pronoun at `index` mean the character?"""
    low = tokens[index].low
    if index == 0:
        return True
    opener = _clause_opener(tokens, index)
    if low == own.reflexive:
        return subject == "self" if opener is None else _opens_with_own(tokens, opener, own)
    possessive = low != own.object or is_possessive_her(tokens, index, subject)
    if subject == "rival" and possessive and not _object_before(tokens, index, own):
        return False
    return not (opener is not None and _rival_clause(tokens, opener, index, own))


def _object_before(tokens: Sequence[Token], index: int, own: Pronouns) -> bool:
    """Has the character come up already, as "her" or "me", in a sentence about a rival?"""
    before = tokens[1:index]
    return any(token.low in {own.object, "me", "you"} - {own.possessive} for token in before)


def is_possessive_her(tokens: Sequence[Token], index: int, subject: str) -> bool:
    """Is the word at `index` a "her" followed by what is hers?"""
    if tokens[index].low != "her":
        return False
    if index + 1 >= len(tokens):
        return False
    following = tokens[index + 1]
    low = following.low
    if not following.is_word or following.name or low in words("function_words"):
        return low in {"own", "other", "only", "many", "few", "first", "last"} or low.isdigit()
    if low in words("numerals"):
        return True
    if is_adverb(low) and not parts_of_speech(low) & {"NOUN", "ADJ"}:
        return index + 2 < len(tokens) and "ADJ" in parts_of_speech(tokens[index + 2].low)
    return index == 0 or _owns_after(tokens[index - 1].low, low, subject)


def _owns_after(before: str, low: str, subject: str) -> bool:
    """Does "her" between these two words own what follows?"""
    if not parts_of_speech(low) & {"NOUN", "ADJ", "PROPN"} and "VERB" in parts_of_speech(low):
        return low.endswith(("ing", "ed", "en"))
    if before in words("causative_forms") and inflect(base_form(low), "VB") == low:
        return "VERB" not in parts_of_speech(low)
    return subject == "self" or before not in words("ditransitive_forms")


def _after_lead(tokens: Sequence[Token], verb: int) -> int:
    commas = [i for i in range(min(verb, len(tokens))) if tokens[i].text == ","]
    return commas[-1] + 1 if commas else 0


def _is_stranger(token: Token, index: int) -> bool:
    return index > 0 and token.text[:1].isupper() and not token.name


def _clause_opener(tokens: Sequence[Token], index: int) -> int | None:
    """Where the clause around `index` opens, when it is one that follows a subordinator."""
    for place in range(index - 1, -1, -1):
        if tokens[place].text in ";.":
            return None
        if tokens[place].low in SUBORDINATORS:
            has_verb = any(is_finite(token.low) for token in tokens[place + 1 : index])
            return place if has_verb else None
    return None


def _opens_with_own(tokens: Sequence[Token], opener: int, own: Pronouns) -> bool:
    following = tokens[opener + 1] if opener + 1 < len(tokens) else None
    if following is None:
        return False
    before = tokens[opener - 1] if opener else None
    if tokens[opener].low in RELATIVES and is_finite(following.low):
        return bool(before and before.name)
    return following.name or following.low == own.subject


def _rival_clause(tokens: Sequence[Token], opener: int, index: int, own: Pronouns) -> bool:
    """Is the pronoun in a who-clause about someone who may bear the same pronouns?"""
    if tokens[index - 1].low == "of" or tokens[opener].low != "who" or opener == 0:
        return False
    if tokens[index].low == own.object == "him":
        return False
    place = opener - 1 if tokens[opener - 1].is_word else opener - 2
    if place < 0 or own is IT:
        return False
    antecedent = tokens[place]
    if antecedent.name or not is_noun(antecedent):
        return False
    return antecedent.text[:1].isupper() or gender_of(antecedent) is own
