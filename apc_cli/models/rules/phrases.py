"""The verb and the noun phrase of a statement that questions and replies can be built around."""

from collections.abc import Sequence
from dataclasses import dataclass

from apc_cli.models.rules.antecedents import gender_of
from apc_cli.models.rules.banks import words
from apc_cli.models.rules.casing import lower_first
from apc_cli.models.rules.first_person import second_person
from apc_cli.models.rules.names import names_of
from apc_cli.models.rules.predicates import SUBORDINATORS, finite_after, skip_adverbs
from apc_cli.models.rules.pronouns import Pronouns
from apc_cli.models.rules.subjects import main_subject_index
from apc_cli.models.rules.tokens import Token, render, strip_end, tokenise
from apc_cli.models.rules.verbs import (
    MODALS,
    base_form,
    is_auxiliary,
    is_participle,
    is_past,
    is_plural_noun,
    parts_of_speech,
)

_DETERMINERS = frozenset("a an the your my his her their some two three four five".split())
_LONGEST_PHRASE = 5
_BE = frozenset({"are", "were", "aren't", "weren't"})


@dataclass(frozen=True)
class Parts:
    """What a statement offers; empty where it offers nothing safe."""

    you: str
    verb: str = ""
    past: bool = False
    object: str = ""
    owned: str = ""
    owned_plural: bool = False


def parts_of(statement: str, character: str, own: Pronouns | None) -> Parts:
    """The pieces of "Alice sketches in notebooks.": verb "sketch", object "notebooks"."""
    spoken = second_person(statement, character, own)
    you = lower_first(spoken.rstrip(".!?"))
    tokens = strip_end(tokenise(spoken))
    if tokens and tokens[0].low == "your":
        head = _owned(tokens)
        plural = bool(head) and _is_plural_owned(tokens, len(head))
        return Parts(you, owned=render(_lowered(head)), owned_plural=plural)
    verb, past = _asked_verb(statement, character, own)
    return Parts(you, verb, past, render(_object(tokens)))


def _lowered(tokens: Sequence[Token]) -> list[Token]:
    return [Token(tokens[0].text.lower()), *tokens[1:]] if tokens else []


def _owned(tokens: Sequence[Token]) -> list[Token]:
    for index in range(2, min(len(tokens), _LONGEST_PHRASE + 1)):
        if is_auxiliary(tokens[index].low):
            plain = all(token.is_word for token in tokens[:index])
            return list(tokens[:index]) if plain else []
    return []


def _is_plural_owned(tokens: Sequence[Token], verb: int) -> bool:
    return tokens[verb].low in {"are", "were", "have", "aren't", "weren't"}


def _asked_verb(statement: str, character: str, own: Pronouns | None) -> tuple[str, bool]:
    """The verb for "What do you ...?", with its preposition, when its object follows."""
    tokens = names_of(character).tokenise(statement)
    subject = main_subject_index(tokens, own)
    place = None if subject is None else finite_after(tokens, subject + 1)
    if place is None or place + 1 >= len(tokens) or is_auxiliary(tokens[place].low):
        return "", False
    base, following = base_form(tokens[place].low), tokens[place + 1].low
    past = is_past(tokens[place].low)
    if f"{base}/{following}" in words("ask_what_prep"):
        return f"{base} {following}", past
    person = any(gender_of(token) for token in tokens[place + 1 : place + 4])
    if base in words("ask_what") and not person and _starts_object(tokens[place + 1]):
        return base, past
    return "", False


def _starts_object(token: Token) -> bool:
    if token.low in words("prepositions") or not token.is_word:
        return False
    kinds = parts_of_speech(token.low)
    return token.low in _DETERMINERS or bool(kinds & {"NOUN", "ADJ"}) or not kinds


def _object(tokens: Sequence[Token]) -> list[Token]:
    """The first noun phrase after the verb of a second-person clause that stands on its own."""
    start = next((i for i, token in enumerate(tokens) if token.low == "you"), None)
    verb = None if start is None else _verb_after_you(tokens, start + 1)
    if verb is None:
        return []
    direct = _after_verb(tokens, verb)
    for index in range(direct, len(tokens)):
        if tokens[index].low in SUBORDINATORS or tokens[index].text in ",:;":
            return []
        before = tokens[index - 1].low
        opens = index == direct != verb or before in words("prepositions")
        phrase = _phrase_at(tokens, index, bare=index == direct or before == "of")
        if phrase and (opens or tokens[index].low in _DETERMINERS):
            return [] if tokens[verb].low in _BE and index == direct else phrase
    return []


def _verb_after_you(tokens: Sequence[Token], index: int) -> int | None:
    """The verb after "you": unlike with "she", any verb form will do."""
    found = finite_after(tokens, index)
    if found is not None:
        return found
    for place in range(index, min(index + 3, len(tokens))):
        if "VERB" in parts_of_speech(tokens[place].low):
            return place
    return None


def _after_verb(tokens: Sequence[Token], verb: int) -> int:
    """Where the object or complement starts, after the parts of a compound verb."""
    place = skip_adverbs(tokens, verb + 1)
    if place >= len(tokens) or not is_auxiliary(tokens[verb].low):
        return place
    low = tokens[place].low
    compound = tokens[verb].low in MODALS or "n't" in tokens[verb].low or is_participle(low)
    if compound or tokens[verb].low in {"do", "did"} or low == "not":
        return skip_adverbs(tokens, place + (2 if low == "not" else 1))
    return place


def _phrase_at(tokens: Sequence[Token], start: int, *, bare: bool) -> list[Token]:
    """A noun phrase that certainly starts here and certainly ends where it is cut."""
    phrase: list[Token] = []
    index = start
    if tokens[index].low in _DETERMINERS:
        phrase.append(tokens[index])
        index += 1
    while index < len(tokens) and _in_phrase(tokens[index]):
        phrase.append(tokens[index])
        index += 1
    following = tokens[index].low if index < len(tokens) else ""
    listed_name = following in {"and", "or"} and bool(phrase) and phrase[-1].text[:1].isupper()
    if not phrase or following == "of" or listed_name or len(phrase) > _LONGEST_PHRASE:
        return []
    return phrase if _stands(phrase, bare=bare, listed=following == ",") else []


def _stands(phrase: Sequence[Token], *, bare: bool, listed: bool) -> bool:
    last, first = phrase[-1], phrase[0]
    kinds = parts_of_speech(last.low)
    if last.low in _DETERMINERS or last.low in words("time_words") or first.text[0].isdigit():
        return False
    if kinds and "NOUN" not in kinds or (listed and "ADJ" in kinds):
        return False
    determined = first.low in _DETERMINERS
    return determined or bare or is_plural_noun(last.low) or last.text[:1].isupper()


def _in_phrase(token: Token) -> bool:
    if not token.is_word or token.low in words("function_words") or token.quoted:
        return False
    kinds = parts_of_speech(token.low)
    return bool(kinds & {"NOUN", "ADJ"}) or not kinds
