"""What a statement, or a user's question, is about."""

import re
from functools import cache

from apc_cli.models.rules.banks import bank, words
from apc_cli.models.rules.names import names_of

_MOST_TOPICS = 3


def topics_of(statement: str, character: str) -> tuple[str, ...]:
    """The topics of a statement, the most telling first; ("other",) when none fits."""
    text = masked(statement, character)
    found = _found(text)
    return tuple(found[:_MOST_TOPICS]) or ("other",)


def main_topic(statement: str, character: str) -> str:
    return topics_of(statement, character)[0]


@cache
def query_topics(query: str) -> frozenset[str]:
    """The topics of a question that none of the banks holds."""
    text = re.sub(r"\b(your|you)\b", "@", query.lower().replace("’", "'"))
    found = _found(text.replace("do @ ", "@ ").replace("did @ ", "@ "))
    return frozenset(found[:_MOST_TOPICS])


def phrase_of(topic: str) -> str:
    """The topic as the character names it: "my family"."""
    return bank("topics")[topic]["phrase"]


def masked(statement: str, character: str) -> str:
    """The statement in lower case with "@" for the character's name."""
    parts, position = [], 0
    for start, end in names_of(character).spans(statement):
        parts += [statement[position:start], "@"]
        position = end
    parts.append(statement[position:])
    return "".join(parts).lower().replace("’", "'")


def _found(text: str) -> list[str]:
    """The topics that match: narrow before broad, then by how early the telling words come."""
    places = []
    for rank, (topic, patterns) in enumerate(_patterns()):
        ends = [match.end() for pattern in patterns if (match := pattern.search(text))]
        if ends:
            places.append((topic in words("broad_topics"), min(ends), rank, topic))
    return [topic for *_, topic in sorted(places)]


@cache
def _patterns() -> list[tuple[str, tuple[re.Pattern[str], ...]]]:
    return [
        (topic, tuple(re.compile(pattern) for pattern in entry["match"]))
        for topic, entry in bank("topics").items()
    ]
