"""Whether two statements are worded so that both can hardly be true of one person.

"Speaks Danish" and "speaks French" may stand side by side; "never drinks" and "is drunk most
evenings", "her sword is called Frost" and "her sword is called Ember" may not.
"""

from collections.abc import Iterator
from typing import NamedTuple

from apc_cli.models.rules.banks import bank, words
from apc_cli.models.rules.names import names_of
from apc_cli.models.rules.segments import is_english
from apc_cli.models.rules.verbs import base_form

_SAME = 0.5
"""The share of the shorter statement's other words that both must have where one word differs."""


def may_exclude(character: str, one: str, other: str) -> bool:
    """Whether anything in the words says so; always in languages that no rule is for.

    Signs are a denial in one of them only; "only" and "alone"; a word for what there is one of in
    both (a favourite, a birth); other numbers, or opposite words, where the rest is alike.
    """
    if not (is_english(one) and is_english(other)):
        return True
    first, second = _told(character, one), _told(character, other)
    return (
        _denies(first) != _denies(second)
        or bool((first.words | second.words) & words("sole_words"))
        or _of_one(first, second)
        or any(_alike(first, second, *swap) for swap in _swaps(first, second))
    )


def are_turned_round(character: str, one: str, other: str) -> bool:
    """Whether both have the same words in another order: who did it to whom differs."""
    first, second = _in_order(character, one), _in_order(character, other)
    return first != second and sorted(first) == sorted(second)


class _Told(NamedTuple):
    """The words of a statement without the name, as they are and in their base forms."""

    words: frozenset[str]
    bases: frozenset[str]

    def has(self, word: str) -> bool:
        return word in self.words or word in self.bases


def _told(character: str, statement: str) -> _Told:
    found = [word for word in _in_order(character, statement) if word != character]
    return _Told(frozenset(found), frozenset(map(base_form, found)))


def _in_order(character: str, statement: str) -> list[str]:
    tokens = names_of(character).tokenise(statement)
    return [t.low or character for t in tokens if t.is_word and not t.is_clitic]


def _denies(told: _Told) -> bool:
    return any(low in words("denying_words") or low.endswith("n't") for low in told.words)


def _of_one(first: _Told, second: _Told) -> bool:
    """A name counts only where both name the same: a sword, not a son and a daughter."""
    shared = first.words & second.words
    named = shared & words("naming_words")
    return bool(shared & words("singular_words")) or bool(named and _content(shared) - named)


def _swaps(first: _Told, second: _Told) -> Iterator[tuple[str, str]]:
    """(word of the first, of the second) that cannot both be meant."""
    one, other = ({base for base in told.bases if _is_number(base)} for told in (first, second))
    yield from ((a, b) for a in one - other for b in other - one)
    kinds = ("verb_pairs", "adjective_pairs", "exclusive_pairs")
    for a, b in (pair.split() for kind in kinds for pair in bank("swaps")[kind]):
        yield from ((x, y) for x, y in ((a, b), (b, a)) if first.has(x) and second.has(y))


def _is_number(low: str) -> bool:
    return low[0].isdigit() or low in words("numerals") - words("sole_words")


def _alike(first: _Told, second: _Told, one: str, other: str) -> bool:
    """Whether most of what the shorter of two statements says besides is in the other, too."""
    left = _content(first.bases - {one, base_form(one)})
    right = _content(second.bases - {other, base_form(other)})
    return len(left & right) > _SAME * min(len(left), len(right))


def _content(told: frozenset[str]) -> frozenset[str]:
    return told - words("function_words")
