"""Replies that recite a persona's own statements, as small role-play models often do.

Written replies paraphrase, and those that keep a statement's words mostly change one detail. A
judge that learns from them alone takes shared words for a sign of contradiction. These replies tell
several statements almost word for word, some with one detail of one statement changed; their labels
are right by construction as far as a persona's statements are about different things.
"""

import random
from collections.abc import Sequence
from dataclasses import replace

from apc_cli.models.labelled.corpus import Exchange, LabelledReply, Persona
from apc_cli.models.rules.answers import sentences_for
from apc_cli.models.rules.banks import Chooser
from apc_cli.models.rules.contradictions import changed_details
from apc_cli.models.rules.pronouns import Pronouns, pronouns_in

_MOST_TOLD = 4
_CHANGED, _TWICE, _CUT = 0.5, 0.1, 0.25


def recitals(persona: Persona, count: int, seed: int) -> Persona:
    """The persona with `count` reciting replies, to queries of its own, in place of its replies."""
    own = pronouns_in(persona.character, persona.statements)
    draw = random.Random(f"{seed} {persona.character}")
    exchanges = [_recital(persona, draw.choice(persona.exchanges), own, draw) for _ in range(count)]
    return replace(persona, exchanges=tuple(exchanges))


def _recital(
    persona: Persona, exchange: Exchange, own: Pronouns | None, draw: random.Random
) -> Exchange:
    """One exchange of the persona with one reply; a statement told by a cut end is unclear."""
    told = _told(len(persona.statements), exchange.relevant, draw)
    chooser = Chooser(draw.randrange(2**31), "recital", persona.character)
    facts = [persona.statements[i] for i in told]
    changed = _change_one(facts, persona.character, chooser, draw)
    sentences = sentences_for(facts, persona.character, own, chooser)
    labels = {
        i: ("contradicted" if place == changed else "entailed") for place, i in enumerate(told)
    }
    if len(told) > 1 and draw.random() < _CUT:
        words = sentences[-1].split()
        sentences[-1] = " ".join(words[: draw.randint(1, max(1, len(words) - 1))])
        labels[told[-1]] = "unclear"
    elif draw.random() < _TWICE:
        sentences.append(draw.choice(sentences))
    groups = {
        group: tuple(i for i in told if labels[i] == group)
        for group in ("entailed", "contradicted", "unclear")
    }
    return replace(exchange, replies=(LabelledReply(" ".join(sentences), **groups),))


def _told(size: int, relevant: Sequence[int], draw: random.Random) -> list[int]:
    """Which statements a reply tells: any, and often first a relevant one."""
    told = draw.sample(range(size), min(size, draw.randint(1, _MOST_TOLD)))
    first = [draw.choice(relevant)] if relevant and draw.random() < 0.5 else []
    return list(dict.fromkeys(first + told))[:_MOST_TOLD]


def _change_one(
    facts: list[str], character: str, chooser: Chooser, draw: random.Random
) -> int | None:
    """Changes a detail of one fact in place, often; its place, or None."""
    place = draw.randrange(len(facts))
    details = changed_details(facts[place], character, chooser)
    if not details or draw.random() >= _CHANGED:
        return None
    facts[place] = details[0]
    return place
