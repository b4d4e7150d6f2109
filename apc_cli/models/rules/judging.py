"""What a question asks for and what a reply says, as far as the rules that wrote them can tell."""

import re
from functools import cache

from apc_cli.models.rules.banks import words
from apc_cli.models.rules.contradictions import contradictions_of, topic_denials
from apc_cli.models.rules.first_person import first_person, second_person
from apc_cli.models.rules.neutral import leaves_open
from apc_cli.models.rules.pronouns import Pronouns
from apc_cli.models.rules.questions import bank_topic, frame_patterns, plain
from apc_cli.models.rules.topics import query_topics, topics_of
from apc_cli.models.rules.verbs import base_form, parts_of_speech

_SHORT_FORMS = {
    "n't": " not",
    "'m": " am",
    "'re": " are",
    "'ve": " have",
    "can't": "can not",
    "cannot": "can not",
}
_FEWEST_SHARED = 2


def is_relevant(statement: str, query: str, character: str, own: Pronouns | None) -> bool:
    """Would an answer to the query include the statement, by what both are about?"""
    bare = plain(query)
    topics = topics_of(statement, character)[:2]
    if bare in bank_topic():
        return bank_topic()[bare] in topics
    asked = _slot(bare)
    content = _content(second_person(statement, character, own))
    if asked is not None:
        wanted = _content(asked)
        return bool(wanted) and wanted <= content
    shared = _content(bare) & content
    return (
        bool(query_topics(query) & set(topics[:1]))
        and bool(shared)
        or (len(shared) >= _FEWEST_SHARED)
    )


def said_of(statement: str, response: str, character: str, own: Pronouns | None, seed: int) -> str:
    """The NLI label of a reply that was written for another statement."""
    if leaves_open(response):
        return "neutral"
    said = f" {flat(response)} "
    if f" {flat(first_person(statement, character, own))} " in said:
        return "entailed"
    wrong = [
        *contradictions_of(statement, character, own, seed),
        *topic_denials(statement, character),
    ]
    return "contradicted" if any(f" {flat(text)} " in said for text in wrong) else "neutral"


@cache
def flat(text: str) -> str:
    """The text without case, punctuation and short forms."""
    low = text.lower().replace("’", "'")
    for short, full in _SHORT_FORMS.items():
        low = low.replace(short, full)
    return " ".join(re.findall(r"[^\W_]+", low))


@cache
def _slot(bare: str) -> str | None:
    """What stands in the open place of a question frame."""
    for pattern in frame_patterns():
        match = pattern.fullmatch(bare)
        if match:
            return match[1]
    return None


@cache
def _content(text: str) -> frozenset[str]:
    """The words that carry meaning, in their basic form."""
    found = re.findall(r"\w+", text.lower())
    return frozenset(_basic(item) for item in found if item not in words("function_words"))


def _basic(low: str) -> str:
    kinds = parts_of_speech(low)
    if "VERB" in kinds:
        return base_form(low)
    return low[:-1] if low.endswith("s") and "NOUN" in kinds else low
