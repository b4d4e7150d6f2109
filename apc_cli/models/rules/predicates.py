"""Who does what in a sentence: subjects, finite verbs, and the verbs coordinated with them."""

from collections.abc import Sequence

from apc_cli.models.rules.banks import words
from apc_cli.models.rules.tokens import Token
from apc_cli.models.rules.verbs import (
    BE_HAVE,
    MODALS,
    is_adverb,
    is_auxiliary,
    is_clear_finite,
    is_clear_past,
    is_finite,
    is_noun,
    is_participle,
    is_past,
    is_plural_noun,
    is_third_person,
    parts_of_speech,
)

CONJUNCTIONS = frozenset({"and", "but", "or", "then", "nor", "yet"})
_OBJECT_OPENERS = frozenset("a an the his her its their my him it them himself herself".split())
RELATIVES = frozenset("who which that whom whose where".split())
SUBORDINATORS = RELATIVES | frozenset(
    "because when while if although though since as until unless whenever wherever whether "
    "how why what before after so than".split()
)


def skip_adverbs(tokens: Sequence[Token], index: int) -> int:
    """The first position from `index` on that holds no adverb."""
    while index < len(tokens) and is_adverb(tokens[index].low):
        if is_finite(tokens[index].low) and tokens[index].low not in words("adverbs"):
            break
        index += 1
    return index


def finite_after(tokens: Sequence[Token], index: int) -> int | None:
    """The finite verb of the subject that ends just before `index`, adverbs skipped."""
    place = skip_adverbs(tokens, index)
    if place >= len(tokens):
        return None
    low = tokens[place].low
    if is_finite(low) or low in words("bare_pasts"):
        return place
    unknown = low.endswith("s") and not parts_of_speech(low) and tokens[place].text.islower()
    return place if unknown and len(low) > 3 else None


def verb_at(tokens: Sequence[Token], index: int, head: str) -> bool:
    """Is the word at `index`, which follows a conjunction or comma, one more finite verb?

    `head` is the verb it would be coordinated with.
    """
    token = tokens[index]
    if token.name or token.quoted:
        return False
    low = token.low
    if is_auxiliary(low):
        return True
    if is_third_person(low):
        return _third_person_verb(tokens, index)
    return is_past(low) and _past_verb(tokens, index, head)


def _third_person_verb(tokens: Sequence[Token], index: int) -> bool:
    low = tokens[index].low
    following = tokens[index + 1].low if index + 1 < len(tokens) else ""
    if following in _OBJECT_OPENERS or tokens[index - 1].low in words("adverbs"):
        return True
    if low in words("nouny") or (low == "thanks" and following == "to"):
        return False
    if "NOUN" not in parts_of_speech(low):
        return True
    if low in words("verby"):
        alone = following in {"", ".", ",", "and", "or"}
        return not (alone and is_plural_noun(tokens[max(0, index - 2)].low))
    return following in words("verb_followers") or is_plural_noun(following)


def _past_verb(tokens: Sequence[Token], index: int, head: str) -> bool:
    low = tokens[index].low
    if head in BE_HAVE or head in MODALS:
        return is_clear_past(low)
    if is_past(head) or head in words("bare_pasts"):
        return _past_after_past(tokens, index)
    return is_clear_past(low) and "ADJ" not in parts_of_speech(low)


def _past_after_past(tokens: Sequence[Token], index: int) -> bool:
    low = tokens[index].low
    if not is_participle(low) or is_clear_past(low):
        return True
    following = tokens[index + 1] if index + 1 < len(tokens) else None
    if following is None or following.low == "by":
        return False
    return not ("ADJ" in parts_of_speech(low) and is_noun(following))


def coordinated(tokens: Sequence[Token], verb: int, *, strict: bool) -> list[int]:
    """The further finite verbs that share the subject of the one at `verb`.

    With `strict`, the search ends at any subordinate clause (safe to split there); without, only
    at a relative clause or a new subject, so that agreement reaches as far as the subject does.
    """
    found: list[int] = []
    head = _head(tokens, verb)
    stops = SUBORDINATORS if strict else RELATIVES
    index = verb + 1
    while index < len(tokens):
        token = tokens[index]
        if token.low in stops and _opens_clause(tokens, index):
            break
        if token.text in ";:—–" or (token.quoted and strict):
            break
        if token.low in CONJUNCTIONS or token.text == ",":
            place = skip_adverbs(tokens, _skip_conjunctions(tokens, index))
            if place < len(tokens) and _is_coordinate(tokens, index, place, head):
                found.append(place)
                index = place
            elif _has_own_subject(tokens, place):
                break
        index += 1
    return found


def _head(tokens: Sequence[Token], verb: int) -> str:
    return tokens[verb].low


def _opens_clause(tokens: Sequence[Token], index: int) -> bool:
    """Is the word at `index` a subordinator here, not a preposition or determiner?"""
    low = tokens[index].low
    if low in {"as", "before", "after", "since", "until", "so", "than", "that"}:
        return any(is_clear_finite(token.low) for token in tokens[index + 1 : index + 6])
    return True


def _skip_conjunctions(tokens: Sequence[Token], index: int) -> int:
    while index < len(tokens) and (tokens[index].low in CONJUNCTIONS or tokens[index].text == ","):
        index += 1
    return index


def _is_coordinate(tokens: Sequence[Token], start: int, place: int, head: str) -> bool:
    if not verb_at(tokens, place, head):
        return False
    only_comma = place == start + 1 and tokens[start].text == ","
    if not only_comma:
        return True
    low = tokens[place].low
    if is_auxiliary(low) or not _list_goes_on(tokens, place, head):
        return False
    if is_past(low) and not is_third_person(low):
        return True
    return "NOUN" not in parts_of_speech(low) or low in words("verby")


def _list_goes_on(tokens: Sequence[Token], place: int, head: str) -> bool:
    """Does a last verb with a conjunction follow, as in "sings, dances and acts"?"""
    for index in range(place + 1, len(tokens) - 1):
        if tokens[index].low in {"and", "or", "but"}:
            after = skip_adverbs(tokens, _skip_conjunctions(tokens, index))
            if after < len(tokens) and verb_at(tokens, after, head):
                return True
    return False


def _has_own_subject(tokens: Sequence[Token], start: int) -> bool:
    """Does a clause with a subject of its own begin at `start`?"""
    if start >= len(tokens):
        return False
    starter = tokens[start].name or tokens[start].low in words("clause_starters")
    for index in range(start, len(tokens)):
        token = tokens[index]
        if token.text in ",;:.—–" or (index > start and token.low in CONJUNCTIONS):
            return False
        if token.low in RELATIVES and index > start:
            return False
        if index > start and is_clear_finite(token.low):
            return True
        after_noun = index > start and (starter or is_noun(tokens[index - 1]))
        if after_noun and (is_past(token.low) or (starter and is_finite(token.low))):
            return True
    return False
