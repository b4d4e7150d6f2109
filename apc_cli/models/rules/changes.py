"""One detail of a statement exchanged for a wrong one of the same kind."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache

from lemminflect import getLemma

from apc_cli.models.rules.banks import Chooser, bank, words
from apc_cli.models.rules.name_changes import Change, name_changes
from apc_cli.models.rules.predicates import CONJUNCTIONS
from apc_cli.models.rules.tokens import Token, sentence, word
from apc_cli.models.rules.verbs import (
    base_form,
    inflect,
    is_adverb,
    is_auxiliary,
    is_plural_noun,
    is_third_person,
    parts_of_speech,
)

_SMALL = "one two three four five six seven eight nine ten eleven twelve".split()
_LATEST_YEAR = 2100
_TAGS = ("VBZ", "VBD", "VBN", "VBG", "VB")
_BE = frozenset({"is", "are", "was", "were", "isn't", "wasn't"})
_SUBJECTS = frozenset({"to", "he", "she", "they", "who", "that", "which"})
_AN_SOUNDS = "aeiou"


def changes(tokens: Sequence[Token], chooser: Chooser) -> list[Change]:
    """Every change that one word, number or name allows."""
    found: list[Change] = []
    for index, token in enumerate(tokens):
        if token.name or token.quoted or not token.is_word or _is_fixed(tokens, index):
            continue
        for rank, text in _alternatives(tokens, index, chooser):
            found.append(Change(_put(tokens, index, text), rank))
    return found + name_changes(tokens, chooser)


def _is_fixed(tokens: Sequence[Token], index: int) -> bool:
    """Does the word belong to an idiom ("by nature", "moved house")?"""
    if index == 0:
        return tokens[0].low in words("function_words")
    before = tokens[index - 1].low
    return (
        before in {"by", "at"}
        and tokens[index].low in words("time_words") | {"nature"}
        or (before in {"moved", "moves", "move", "keeps", "kept"} and tokens[index].low == "house")
    )


def _alternatives(
    tokens: Sequence[Token], index: int, chooser: Chooser
) -> Iterable[tuple[int, str]]:
    token = tokens[index]
    number = _number(tokens, index, chooser)
    if number:
        yield 0, number
        return
    present = {form for item in tokens for form in (item.low, *_singular(item.low))}
    member = _group_member(token.low, present, chooser)
    if member and not _in_name(tokens, index) and not _is_verb_place(tokens, index):
        yield 1, _like(token, member)
    if token.low == "no" and _is_plain_no(tokens, index):
        yield 1, "plenty of"
    opposite = _opposites().get(token.low)
    free = _is_free(tokens, index) and not _is_verb_place(tokens, index)
    if opposite and opposite not in present and free:
        yield 2, _like(token, opposite)
    verb = _verb(token.low)
    if verb and not _in_name(tokens, index):
        yield 2, _like(token, verb)


def _singular(low: str) -> tuple[str, ...]:
    return getLemma(low, upos="NOUN") if is_plural_noun(low) else ()


def _is_verb_place(tokens: Sequence[Token], index: int) -> bool:
    """Does a verb stand here, whatever noun is spelt like it?"""
    if "VERB" not in parts_of_speech(tokens[index].low):
        return False
    before = skip_back(tokens, index - 1)
    helper = is_auxiliary(before.low) and before.low not in _BE
    if before.name or helper or before.low in _SUBJECTS:
        return True
    joined = before.low in CONJUNCTIONS and is_third_person(tokens[index].low)
    return joined and not _followed_by_stop(tokens, index)


def _is_plain_no(tokens: Sequence[Token], index: int) -> bool:
    following = tokens[index + 1] if index + 1 < len(tokens) else None
    return following is not None and following.text.islower() and following.low != "one"


def _followed_by_stop(tokens: Sequence[Token], index: int) -> bool:
    return index + 1 >= len(tokens) or not tokens[index + 1].is_word


def skip_back(tokens: Sequence[Token], index: int) -> Token:
    """The token at `index`, or the nearest before it that is no adverb."""
    while index > 0 and is_adverb(tokens[index].low):
        index -= 1
    return tokens[index]


def _number(tokens: Sequence[Token], index: int, chooser: Chooser) -> str:
    """A near miss: 26 gives 24, 1792 gives 1795, three gives four."""
    low = tokens[index].low
    digits = low.split("-")[0]
    if digits.isdecimal() and len(digits) <= 4:
        return _near(int(digits), index, chooser) + low[len(digits) :]
    following = tokens[index + 1].low if index + 1 < len(tokens) else ""
    countable = is_plural_noun(following) or "ADJ" in parts_of_speech(following)
    if low in _SMALL and low != "one" and countable:
        place = _SMALL.index(low)
        near = [_SMALL[i] for i in (place - 1, place + 1, place + 2) if 1 <= i < len(_SMALL)]
        return chooser.pick(f"small{index}", near)
    return ""


def _near(value: int, index: int, chooser: Chooser) -> str:
    step = chooser.pick(f"step{index}", [1, 2, 3, 4] if value > 9 else [1, 2])
    if value >= 1000 and value < _LATEST_YEAR:
        step = chooser.pick(f"years{index}", [2, 3, 5, 8, 11, 14])
    down = chooser.chance(f"down{index}", 50) and value > step
    return str(value - step if down else value + step)


def _group_member(low: str, present: set[str], chooser: Chooser) -> str:
    plural = low not in _groups() and is_plural_noun(low)
    single = getLemma(low, upos="NOUN")[0] if plural else low
    others = [item for item in _groups().get(single, ()) if item not in present]
    if not others:
        return ""
    chosen = chooser.pick(f"group/{low}", others)
    return inflect(chosen, "NNS") if plural else chosen


def _verb(low: str) -> str:
    kinds = parts_of_speech(low)
    if "VERB" not in kinds or low in words("function_words"):
        return ""
    base = base_form(low)
    other = _verb_opposites().get(base)
    if not other:
        return ""
    if "NOUN" in kinds and not low.endswith(("s", "ed")):
        return ""
    return next((inflect(other, tag) for tag in _TAGS if inflect(base, tag) == low), "")


def _is_free(tokens: Sequence[Token], index: int) -> bool:
    """Is the word itself meant here, not part of a fixed phrase or a name?"""
    low, following = tokens[index].low, tokens[index + 1].low if index + 1 < len(tokens) else ""
    if low == "never":
        return is_third_person(following) and not is_auxiliary(tokens[index - 1].low)
    if low in {"afraid", "fond"} and following != "of":
        return False
    if low in {"with", "without"}:
        return following in {"a", "an", "his", "her", "their"} and low == "without"
    if low == "left" and following not in words("nouny") and following != "shoulder":
        return False
    if low in {"more", "first", "alone", "kind", "open", "close", "good", "early", "free"}:
        return low == "kind" and following != "of"
    if low in {"before", "after"}:
        return "NOUN" in parts_of_speech(following) or following in words("function_words")
    return not _in_name(tokens, index)


def _in_name(tokens: Sequence[Token], index: int) -> bool:
    """Is the word part of a proper name of several words?"""
    token = tokens[index]
    if not token.text[:1].isupper() or index == 0:
        return False
    around = [tokens[i] for i in (index - 1, index + 1) if 0 < i < len(tokens)]
    return any(item.text[:1].isupper() and not item.name for item in around) or (
        token.low not in words("proper_words")
    )


def _put(tokens: Sequence[Token], index: int, text: str) -> str:
    changed = list(tokens)
    changed[index] = word(text, space=tokens[index].space)
    before = changed[index - 1] if index else None
    if before is not None and before.low in {"a", "an"}:
        article = "an" if text[0].lower() in _AN_SOUNDS else "a"
        changed[index - 1] = replace(before, text=_like(before, article))
    return sentence(changed)


def _like(token: Token, text: str) -> str:
    proper = text in words("proper_words")
    return text.capitalize() if token.text[:1].isupper() or proper else text


@cache
def _groups() -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for entry in bank("swaps")["groups"].values():
        members = entry["words"].split()
        for member in members:
            found.setdefault(member, tuple(item for item in members if item != member))
    return found


@cache
def _opposites() -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in bank("swaps")["adjective_pairs"]:
        one, other = pair.split()
        found.setdefault(one, other)
        found.setdefault(other, one)
    return found


@cache
def _verb_opposites() -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in bank("swaps")["verb_pairs"]:
        one, other = pair.split()
        found.setdefault(one, other)
        found.setdefault(other, one)
    return found
