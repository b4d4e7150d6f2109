"""Statements that a given one rules out: one detail changed, or the whole denied."""

import re
from collections.abc import Sequence
from functools import cache

from apc_cli.models.rules.banks import Chooser, bank
from apc_cli.models.rules.changes import changes
from apc_cli.models.rules.first_person import first_person
from apc_cli.models.rules.names import names_of
from apc_cli.models.rules.negation import denials
from apc_cli.models.rules.pronouns import Pronouns
from apc_cli.models.rules.tokens import Token
from apc_cli.models.rules.topics import main_topic

_DENIAL_PERCENT = 12
_FLAT_PERCENT, _TOPIC_PERCENT = 25, 50
_NEGATIVE = re.compile(r"\b(no|not|never|few|nothing|nobody|rarely|without)\b|n't")


@cache
def contradictions_of(
    statement: str, character: str, own: Pronouns | None, seed: int
) -> tuple[str, ...]:
    """First-person clauses that contradict the statement, the preferred first."""
    chooser = Chooser(seed, "contradicted", character, statement)
    tokens = names_of(character).tokenise(statement)
    ranked = _changed(tokens, chooser)
    denied = chooser.order("denials", denials(tokens, own))
    first = bool(denied) and chooser.chance("deny", _DENIAL_PERCENT)
    texts = denied[:1] * first + ranked + denied
    spoken = [first_person(text, character, own) for text in texts if text != statement]
    if not ranked and chooser.chance("flat", _FLAT_PERCENT):
        spoken.insert(0, _flat(chooser))
    elif not ranked and chooser.chance("topic", _TOPIC_PERCENT):
        spoken = chooser.order("topic", topic_denials(statement, character))[:1] + spoken
    return tuple(dict.fromkeys(spoken)) or (_flat(chooser),)


def changed_details(statement: str, character: str, chooser: Chooser) -> list[str]:
    """The statement, still in the third person, with one detail changed; the likeliest first."""
    found = _changed(names_of(character).tokenise(statement), chooser)
    return [text for text in found if text != statement]


def _changed(tokens: Sequence[Token], chooser: Chooser) -> list[str]:
    found = chooser.order("changes", changes(tokens, chooser))
    return [change.text for change in sorted(found, key=lambda change: change.rank)]


def topic_denials(statement: str, character: str) -> list[str]:
    """Denials of all that the statement is about; none for a statement that denies something."""
    if _NEGATIVE.search(statement.lower()):
        return []
    return list(bank("swaps")["topic_denials"].get(main_topic(statement, character), []))


def _flat(chooser: Chooser) -> str:
    return chooser.pick("flat", bank("swaps")["flat_denials"])
