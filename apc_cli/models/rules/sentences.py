"""Paragraphs of prose turned into atomic statements that each name the character."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from apc_cli.models.rules.agreement import singular_verbs
from apc_cli.models.rules.anaphora import (
    drop_loose_words,
    fill_it,
    is_it_sentence,
    points_outside,
    thing_of,
)
from apc_cli.models.rules.antecedents import is_possessive_her, main_subject
from apc_cli.models.rules.banks import words
from apc_cli.models.rules.fragments import from_fragment, from_key_value
from apc_cli.models.rules.names import Names, names_of
from apc_cli.models.rules.predicates import RELATIVES
from apc_cli.models.rules.pronouns import SHE, Pronouns, pronouns_in
from apc_cli.models.rules.segments import is_english, key_value, lines_of, sentences_of
from apc_cli.models.rules.splitting import split
from apc_cli.models.rules.subjects import main_subject_index
from apc_cli.models.rules.tokens import Token, sentence, word
from apc_cli.models.rules.verbs import is_finite, is_plural_noun, parts_of_speech

_OPENING_PRONOUN = re.compile(r"^(?:彼女|彼|她|他)(?=[はがもの的是在有很喜住会不从曾会，,])")
_NEAR = 0.9


@dataclass
class _Context:
    """What earlier sentences of the paragraph leave open for the next one."""

    rival: bool = False
    thing: list[Token] | None = None


def statements_of(character: str, paragraphs: Sequence[str]) -> list[list[str]]:
    """The statements of each paragraph, without those that an earlier one already makes."""
    own = pronouns_in(character, paragraphs)
    seen: list[frozenset[str]] = []
    return [list(_fresh(_paragraph(character, text, own), seen)) for text in paragraphs]


def facts_of(character: str, statement: str, own: Pronouns | None) -> list[str]:
    """The atomic statements in one; `own` are the character's pronouns."""
    return list(_paragraph(character, statement, own))


def _paragraph(character: str, paragraph: str, own: Pronouns | None) -> Iterable[str]:
    context = _Context()
    for line in lines_of(paragraph):
        pair = key_value(line)
        if not is_english(line):
            yield from (_OPENING_PRONOUN.sub(character, cut) for cut in sentences_of(line))
        elif pair and not names_of(character).mentioned(line):
            yield from from_key_value(character, *pair)
        else:
            for text in sentences_of(line):
                yield from _sentence(character, text, own, context)


def _sentence(character: str, text: str, own: Pronouns | None, context: _Context) -> Iterable[str]:
    names = names_of(character)
    tokens = names.tokenise(text)
    if is_it_sentence(tokens, own) and context.thing:
        tokens = fill_it(tokens, context.thing, character)
    if not _mentions(tokens, own):
        fragment = from_fragment(character, text)
        if fragment and not text[:1].isupper():
            yield fragment
        context.rival = context.rival or _opens_with_rival(tokens, own)
        return
    if context.rival and not any(token.name for token in tokens) and _opens_own(tokens, own):
        return
    tokens = drop_loose_words(tokens, own)
    for index, clause in enumerate(split(tokens, own)):
        yield from _spell(names, clause, own, first=index == 0)
    context.rival = main_subject(tokens, own) == "rival"
    context.thing = thing_of(tokens, own)


def _spell(names: Names, clause: list[Token], own: Pronouns | None, *, first: bool) -> list[str]:
    """The clause as a statement, or nothing when it would not stand alone."""
    clause = drop_loose_words(clause, own)
    named = _with_name(clause, names.character, own)
    if points_outside(named, own) or not _is_sentence(named):
        return []
    spelt, pending = [], True
    for token in named:
        if token.name:
            text = names.surface(token.text) if first else names.character
            token = replace(token, text=text if pending else token.text)
            pending = False
        spelt.append(token)
    return [sentence(spelt)]


def _with_name(clause: list[Token], character: str, own: Pronouns | None) -> list[Token]:
    """Puts the name for the pronoun that stands for the character, if no name is there."""
    if any(token.name for token in clause) or own is None:
        return clause
    place = main_subject_index(clause, own)
    if place is None or (place and any(t.low == own.subject for t in clause[:place])):
        place = _first_form(clause, own)
    if place is None:
        return clause
    name = Token(character, clause[place].space, name=True)
    put = [name]
    if _is_possessive(clause, place, own):
        put.append(word("'s", space=False))
    rest = clause[place + 1 :]
    if own.plural and clause[place].low == own.subject:
        rest = singular_verbs(rest)
    return [*clause[:place], *put, *rest]


def _first_form(clause: Sequence[Token], own: Pronouns) -> int | None:
    forms = own.forms()
    places = [i for i, token in enumerate(clause) if token.low in forms and not token.quoted]
    return next((i for i in places if clause[i].low != own.reflexive), None)


def _is_possessive(clause: Sequence[Token], place: int, own: Pronouns) -> bool:
    if own is SHE and clause[place].low == "her":
        return is_possessive_her(clause, place, "other")
    return clause[place].low in {own.possessive, own.absolute}


def _mentions(tokens: Sequence[Token], own: Pronouns | None) -> bool:
    if any(token.name for token in tokens):
        return True
    return own is not None and _first_form(tokens, own) is not None


def _opens_own(tokens: Sequence[Token], own: Pronouns | None) -> bool:
    return own is not None and main_subject_index(tokens, own) is not None


def _opens_with_rival(tokens: Sequence[Token], own: Pronouns | None) -> bool:
    return main_subject(tokens, own) == "rival"


def _is_sentence(tokens: Sequence[Token]) -> bool:
    """Is there a name, a finite verb outside relative clauses, and nothing left open?"""
    if len(tokens) < 2 or not any(token.name for token in tokens):
        return False
    text = "".join(token.text for token in tokens)
    if text.count("(") != text.count(")") or text.count('"') % 2 or text[-1] in ",:":
        return False
    relative = False
    for index, token in enumerate(tokens[:-1]):
        relative = (relative or token.low in RELATIVES) and index > 0 and token.text != ","
        if index and not relative and (is_finite(token.low) or _is_plural_verb(tokens, index)):
            return True
    return is_finite(tokens[-1].low) or tokens[-2].name


def _is_plural_verb(tokens: Sequence[Token], index: int) -> bool:
    """Is there a verb after a plural or a group, as in "Alice's friends call her Al"?"""
    grouped = any(token.low == "and" for token in tokens[:index])
    before = grouped or is_plural_noun(tokens[index - 1].low)
    return before and "VERB" in parts_of_speech(tokens[index].low)


def _fresh(statements: Iterable[str], seen: list[frozenset[str]]) -> Iterable[str]:
    for statement in statements:
        key = _key(statement)
        if not any(_same(key, earlier) for earlier in seen):
            seen.append(key)
            yield statement


def _key(statement: str) -> frozenset[str]:
    found = re.findall(r"\w+", statement.lower())
    return frozenset(found) - words("empty_words") or frozenset([statement])


def _same(one: frozenset[str], two: frozenset[str]) -> bool:
    if any(w.isdigit() or w in {"not", "never", "no"} for w in one ^ two):
        return False
    return len(one & two) >= _NEAR * len(one | two)
