"""How replies read, beside how faithful they are: a score that rises while these fall is hacked."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import get_args

from apc_cli.config.training import Flaw
from apc_cli.models.rules.banks import words as bank_words
from apc_cli.models.rules.verbs import is_third_person as is_third_person_verb
from apc_cli.reports.out_of_character import leaks_prompt, refuses, talks_as_ai

_FIRST_PERSON = re.compile(
    r"\b(?:i|i'm|i've|i'd|i'll|me|my|mine|myself|we|our|us)\b", re.IGNORECASE
)
_I_AND_VERB = re.compile(
    r"((?:\b\w+ ){,2})\bI (?:(?:also|always|never|often|usually|really|still|just|only) )*([a-z']+)"
)
_SENTENCE_END = re.compile(r"[.!?\n\u3002\uff01\uff1f]+")
_CJK = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]")


FLAWS: tuple[Flaw, ...] = get_args(Flaw)
"""What `flaws` can find; a wrong verb is a third person's after "I"."""


def length(reply: str) -> int:
    """Words; in Chinese and Japanese, characters."""
    return len(words(reply))


def words(reply: str) -> list[str]:
    """Lower-case words, each Chinese or Japanese character on its own."""
    return re.findall(r"[\u3040-\u30ff\u4e00-\u9fff]|[^\W_]+(?:'[^\W_]+)?", reply.lower())


def distinct_2(replies: Sequence[str]) -> float:
    """Distinct word pairs over all word pairs of the replies: 1.0 when nothing comes twice."""
    pairs = [
        pair for reply in replies for pair in zip(words(reply), words(reply)[1:], strict=False)
    ]
    return len(set(pairs)) / len(pairs) if pairs else 0.0


def flaws(reply: str, character: str) -> list[str]:
    """What is wrong with a reply, of FLAWS."""
    found = words(reply)
    if len(found) < 2:
        return ["empty"]
    problems = []
    if is_repetitive(found) or says_words_twice(found) or says_a_sentence_twice(reply):
        problems.append("repeated")
    if is_third_person(reply, character):
        problems.append("third person")
    if has_third_person_verb(reply):
        problems.append("wrong verb")
    if talks_as_ai(reply):
        problems.append("as an AI")
    if refuses(reply):
        problems.append("refusal")
    if leaks_prompt(reply, character):
        problems.append("prompt leak")
    return problems


def is_repetitive(found: Sequence[str]) -> bool:
    """A run of four words comes three times, or most words of a long reply are repeats.

    A Chinese or Japanese character is less than a word: runs are twice as long there, and pairs of
    characters are what repeats.
    """
    width = _width(found)
    if max(Counter(_runs(found, 4 * width)).values(), default=0) >= 3:
        return True
    units = _runs(found, width)
    return len(units) >= 20 and len(set(units)) < len(units) / 2.5


def says_words_twice(found: Sequence[str]) -> bool:
    """Five words in a row (ten Chinese or Japanese characters) come again."""
    return max(Counter(_runs(found, 5 * _width(found))).values(), default=0) >= 2


def says_a_sentence_twice(reply: str) -> bool:
    """A sentence of three words or more (six Chinese or Japanese characters) comes again."""
    least = 3 * _width(words(reply))
    said = [tuple(words(sentence)) for sentence in _SENTENCE_END.split(reply)]
    long = [sentence for sentence in said if len(sentence) >= least]
    return len(set(long)) < len(long)


def _width(found: Sequence[str]) -> int:
    """How many units make a word: two where most are Chinese or Japanese characters."""
    return 2 if sum(map(len, filter(_CJK.match, found))) > len(found) / 2 else 1


def _runs(found: Sequence[str], width: int) -> list[tuple[str, ...]]:
    return [tuple(found[i : i + width]) for i in range(len(found) - width + 1)]


def is_third_person(reply: str, character: str) -> bool:
    """The reply speaks of the character by name and never says I, me, my or we."""
    if _CJK.search(reply) or _FIRST_PERSON.search(reply):
        return False
    parts = (n for n in character.split() if len(n) > 2 and n[0].isupper() and n != "The")
    names = {character.lower(), *(part.lower() for part in parts)}
    return any(re.search(rf"\b{re.escape(name)}\b", reply.lower()) for name in names)


def has_third_person_verb(reply: str) -> bool:
    """English that says "I plays": a statement about the character, copied with its verb.

    After a mere name or title, as in "Francis I rules" and "World War I ends", I is a number.
    """
    return any(
        is_third_person_verb(verb) and not (before and all(map(_is_name, before.split())))
        for before, verb in _I_AND_VERB.findall(reply)
    )


def _is_name(word: str) -> bool:
    return word[0].isupper() and word.lower() not in bank_words("function_words")
