"""What a reply can say that neither gives a statement's information nor denies it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from apc_cli.models.rules.banks import Chooser, bank
from apc_cli.models.rules.casing import lower_first, upper_first
from apc_cli.models.rules.contradictions import contradictions_of
from apc_cli.models.rules.first_person import first_person
from apc_cli.models.rules.names import names_of
from apc_cli.models.rules.partial import partial
from apc_cli.models.rules.phrases import parts_of
from apc_cli.models.rules.pronouns import Pronouns
from apc_cli.models.rules.topics import main_topic, phrase_of

_KINDS = (
    "partial",
    "partial",
    "partial",
    "hedged",
    "hedged",
    "hedged",
    "trap",
    "trap",
    "topic",
    "np",
)
_LONGEST_TRAP, _LONGEST_HEDGE = 18, 14
_AWKWARD = re.compile(r"\byours?\b|^(a|an|one|two|three|four|five|some) ")


@dataclass(frozen=True)
class Body:
    """What a reply says, and the part of it that is a plain fact about the speaker."""

    text: str
    fact: str = ""


def neutral_body(
    statement: str,
    query: str,
    character: str,
    own: Pronouns | None,
    seed: int,
    others: Sequence[str],
) -> Body:
    """A partial answer, a fact of one of the `others`, or an evasion that keeps to the subject."""
    chooser = Chooser(seed, "neutral", character, statement, query)
    topic = phrase_of(main_topic(statement, character))
    for kind in chooser.order("kinds", _KINDS):
        body = None
        if kind == "partial":
            body = _partial(statement, character, own)
        elif kind == "trap":
            body = _trap(statement, topic, character, own, others, chooser)
        elif kind == "hedged":
            body = _hedged(statement, character, own, seed, chooser)
        elif kind == "np":
            body = _about(statement, character, own, chooser)
        if body is not None:
            return body
        if kind == "topic":
            break
    return _on_topic(topic, chooser)


def _on_topic(topic: str, chooser: Chooser) -> Body:
    form = chooser.pick("form", bank("phrasings")["neutral"]["topic"])
    return Body(upper_first(form.format(topic=topic)))


def _about(statement: str, character: str, own: Pronouns | None, chooser: Chooser) -> Body | None:
    phrase = parts_of(statement, character, own).object
    if not phrase or _AWKWARD.search(phrase):
        return None
    form = chooser.pick("form", bank("phrasings")["neutral"]["np"])
    return Body(form.format(np=phrase))


def _hedged(
    statement: str, character: str, own: Pronouns | None, seed: int, chooser: Chooser
) -> Body | None:
    """The true clause or a false one, said without saying which it is."""
    true = first_person(statement, character, own)
    false = contradictions_of(statement, character, own, seed)[0]
    clause = lower_first(chooser.pick("clause", [true, true, false]).rstrip(".!?"))
    if len(clause.split()) > _LONGEST_HEDGE or re.search(r"[.!?;:]", clause):
        return None
    form = chooser.pick("hedge", bank("phrasings")["neutral"]["hedged"])
    return Body(form.format(clause=clause))


def leaves_open(response: str) -> bool:
    """Is this one of the replies that say a clause without standing by it?"""
    heads = (form.split("{clause}")[0] for form in bank("phrasings")["neutral"]["hedged"])
    return any(head in response for head in heads)


def _partial(statement: str, character: str, own: Pronouns | None) -> Body | None:
    kept = partial(names_of(character).tokenise(statement), own)
    if not kept:
        return None
    said = first_person(kept, character, own)
    return Body(said, said)


def _trap(
    statement: str,
    topic: str,
    character: str,
    own: Pronouns | None,
    others: Sequence[str],
    chooser: Chooser,
) -> Body | None:
    """Another statement's fact in place of the one asked for."""
    main = main_topic(statement, character)
    foreign = [text for text in others if main_topic(text, character) != main]
    short = sorted({text for text in foreign if len(text.split()) <= _LONGEST_TRAP})
    if not short:
        return None
    other = first_person(chooser.pick("other", short), character, own)
    form = chooser.pick("trap", bank("phrasings")["neutral"]["trap"])
    return Body(upper_first(form.format(topic=topic, other=other)), other)
