"""A statement about the character, said by the character ("I") or to the character ("you")."""

from collections.abc import Sequence
from dataclasses import replace

from apc_cli.models.rules.agreement import FIRST, SECOND, Person, agree, is_has_clitic
from apc_cli.models.rules.antecedents import is_own, is_possessive_her, main_subject
from apc_cli.models.rules.banks import words
from apc_cli.models.rules.names import names_of
from apc_cli.models.rules.predicates import RELATIVES, finite_after, skip_adverbs
from apc_cli.models.rules.pronouns import IT, SHE, Pronouns
from apc_cli.models.rules.reorder import loosen
from apc_cli.models.rules.subjects import bound_away
from apc_cli.models.rules.tokens import Token, sentence, strip_end, word
from apc_cli.models.rules.verbs import is_auxiliary, is_clear_finite, is_finite, is_noun


def first_person(statement: str, character: str, own: Pronouns | None) -> str:
    """From "Bob speaks German.", makes "I speak German."; `own` are the character's pronouns."""
    return _speak(statement, character, own, FIRST)


def second_person(statement: str, character: str, own: Pronouns | None) -> str:
    """From "Bob speaks German.", makes "You speak German."."""
    return _speak(statement, character, own, SECOND)


def _speak(statement: str, character: str, own: Pronouns | None, person: Person) -> str:
    plain = names_of(character).tokenise(statement.strip())
    subject = main_subject(plain, own)
    tokens = loosen(plain, person.subject)
    strangers = _strangers(tokens, own) if own is not None and subject == "self" else set()
    _speak_names(tokens, person)
    if own is not None:
        _speak_pronouns(tokens, own, person, subject, strangers)
    kept = strip_end([token for token in tokens if token.text])
    return sentence(kept)


def _speak_names(tokens: list[Token], person: Person) -> None:
    for index, token in enumerate(tokens):
        if not token.name or token.quoted:
            continue
        if _is_possessive(tokens, index):
            tokens[index] = word(person.possessive, space=token.space)
            tokens[index + 1] = replace(tokens[index + 1], text="")
        elif not _is_spelt_out(tokens, index):
            _speak_name(tokens, index, person)


def _speak_name(tokens: list[Token], index: int, person: Person) -> None:
    grouped = _closes_group(tokens, index) and person.subject == "I"
    if _is_object(tokens, index) and not grouped:
        tokens[index] = word(person.object, space=tokens[index].space)
        return
    tokens[index] = word(person.subject, space=tokens[index].space)
    if grouped or _leads_group(tokens, index):
        return
    if not agree(tokens, index, person, plural=False) and index:
        tokens[index] = word(person.object, space=tokens[index].space)


def _closes_group(tokens: Sequence[Token], index: int) -> bool:
    if index < 2 or tokens[index - 1].low != "and" or not tokens[index - 2].is_word:
        return False
    return not any(is_clear_finite(token.low) for token in tokens[: index - 1])


def _leads_group(tokens: Sequence[Token], index: int) -> bool:
    if index + 1 >= len(tokens) or tokens[index + 1].low != "and":
        return False
    return not (index + 2 < len(tokens) and is_finite(tokens[index + 2].low))


def _is_possessive(tokens: Sequence[Token], index: int) -> bool:
    if index + 1 >= len(tokens):
        return False
    mark = tokens[index + 1]
    if mark.is_clitic:
        return not is_has_clitic(tokens, index + 1)
    return mark.text in "'’" and not mark.space and tokens[index].text.endswith("s")


def _is_spelt_out(tokens: Sequence[Token], index: int) -> bool:
    """Is the name itself what is said ("her full name is Alice Carter")?"""
    before = [token.low for token in tokens[max(0, index - 3) : index]]
    if not before:
        return False
    told = before[-1] in {"named", "called"}
    return told or ("name" in before and before[-1] in {"is", "was", "of"})


def _is_object(tokens: Sequence[Token], index: int) -> bool:
    if index == 0:
        return False
    before = tokens[index - 1].low
    if before in words("prepositions"):
        return finite_after(tokens, index + 1) is None or before not in words("conjunctive")
    earlier = tokens[index - 2].low if index > 1 else ""
    if before in words("saying_forms") and earlier not in RELATIVES:
        return False
    return is_finite(before) and not (is_auxiliary(before) and earlier in words("negative_leads"))


def _strangers(tokens: Sequence[Token], own: Pronouns) -> set[int]:
    """Where "him" cannot mean the subject, who would be "himself" there."""
    if own is IT:
        return set()
    return {
        index
        for index, token in enumerate(tokens)
        if token.low == own.object and bound_away(tokens, index, own)
    }


def _speak_pronouns(
    tokens: list[Token], own: Pronouns, person: Person, subject: str, strangers: set[int]
) -> None:
    forms = own.forms()
    for index in range(len(tokens)):
        token = tokens[index]
        if index in strangers or token.quoted or token.low not in forms:
            continue
        if not is_own(tokens, index, own, subject):
            continue
        said = _said(tokens, index, own, person, subject)
        if said is None:
            continue
        tokens[index] = word(said, space=token.space)
        if said == person.subject and token.low == own.subject:
            _agree_pronoun(tokens, index, own, person)


def _agree_pronoun(tokens: list[Token], index: int, own: Pronouns, person: Person) -> None:
    agree(tokens, index, person, plural=own.plural)


def _said(
    tokens: Sequence[Token], index: int, own: Pronouns, person: Person, subject: str
) -> str | None:
    low = tokens[index].low
    if own is IT and low == "it":
        return person.subject if _is_own_it(tokens, index) else None
    if low == own.subject:
        return person.subject
    if low == own.reflexive:
        return person.reflexive
    if low == SHE.possessive:
        possessive = is_possessive_her(tokens, index, subject)
        return person.possessive if possessive else person.object
    if low == own.possessive:
        return person.possessive if _has_noun_after(tokens, index) else person.absolute
    return person.absolute if low == own.absolute else person.object


def _has_noun_after(tokens: Sequence[Token], index: int) -> bool:
    place = skip_adverbs(tokens, index + 1)
    if place >= len(tokens) or not tokens[place].is_word:
        return False
    low = tokens[place].low
    if index == 0 or tokens[index - 1].low != "of":
        return low not in RELATIVES and low not in {"and", "or", "but", "to", "of", "from"}
    if is_finite(low) and not is_noun(tokens[place]):
        return False
    return low not in words("prepositions") and low not in RELATIVES


def _is_own_it(tokens: Sequence[Token], index: int) -> bool:
    before = tokens[index - 1].low if index else ""
    return before in words("saying_forms") and finite_after(tokens, index + 1) is not None
