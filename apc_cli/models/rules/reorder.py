"""Sentence shapes that sound wrong in the first person, put into plain order beforehand."""

from collections.abc import Sequence

from apc_cli.models.rules.banks import words
from apc_cli.models.rules.tokens import Token, word
from apc_cli.models.rules.verbs import is_finite, is_noun, parts_of_speech

_LONGEST = 14


def loosen(tokens: list[Token], subject: str) -> list[Token]:
    """Opens appositions, and says "my friends and I" for "I and my friends"."""
    opened = _open_apposition(tokens) or _open_leading_apposition(tokens) or tokens
    return _group_last(opened) if subject == "I" else opened


def apposition_end(tokens: Sequence[Token], name: int) -> int | None:
    """The comma that closes an apposition opened by a comma right after the name."""
    if name + 2 >= len(tokens) or tokens[name + 1].text != ",":
        return None
    if (
        tokens[name + 2].low not in words("apposition_openers")
        and not tokens[name + 2].low[:1].isdigit()
    ):
        return None
    for index in range(name + 3, min(len(tokens) - 1, name + _LONGEST)):
        if tokens[index].text == ",":
            following = tokens[index + 1].low
            if is_finite(following) or following in words("adverbs"):
                return index
        elif tokens[name + 2].low == "who":
            continue
        elif is_finite(tokens[index].low) and not is_noun(tokens[index]):
            return None
    return None


def _open_apposition(tokens: list[Token]) -> list[Token] | None:
    """From "Alice, a guitarist, lives here", makes "Alice is a guitarist, and Alice lives here"."""
    name = next((i for i, token in enumerate(tokens) if token.name), None)
    if name is None or name > 0:
        return None
    end = apposition_end(tokens, name)
    if end is None:
        return None
    inner = tokens[name + 2 : end]
    link = [] if inner[0].low == "who" else [word("is")]
    inner = inner[1:] if inner[0].low == "who" else inner
    again = [word(",", space=False), word("and"), Token(tokens[name].text, True, True)]
    return [tokens[name], *link, *inner, *again, *tokens[end + 1 :]]


def _open_leading_apposition(tokens: list[Token]) -> list[Token] | None:
    """From "A guitarist, Alice lives here", makes "Alice is a guitarist, and Alice lives here"."""
    if not tokens or tokens[0].low not in {"a", "an"}:
        return None
    name = next((i for i, token in enumerate(tokens) if token.name), None)
    if name is None or name < 2 or name > _LONGEST or tokens[name - 1].text != ",":
        return None
    if any(is_finite(t.low) and not is_noun(t) for t in tokens[:name]):
        return None
    lead = [word(tokens[0].low), *tokens[1 : name - 1]]
    subject = Token(tokens[name].text, space=False, name=True)
    return [subject, word("is"), *lead, word(",", space=False), word("and"), *tokens[name:]]


def _group_last(tokens: list[Token]) -> list[Token]:
    """From "Alice and her friends play", makes "Her friends and Alice play"."""
    if len(tokens) < 4 or not tokens[0].name or tokens[1].low != "and":
        return tokens
    end = _noun_phrase_end(tokens, 2)
    if end is None:
        return tokens
    name = Token(tokens[0].text, space=True, name=True)
    return [*tokens[2:end], word("and"), name, *tokens[end:]]


def _noun_phrase_end(tokens: Sequence[Token], start: int) -> int | None:
    index = start
    if is_finite(tokens[start].low):
        return None
    while index < len(tokens) and tokens[index].is_word:
        following = tokens[index + 1] if index + 1 < len(tokens) else None
        if following is None:
            return None
        if is_noun(tokens[index]) and _can_be_verb(following):
            return index + 1
        index += 1
    return None


def _can_be_verb(token: Token) -> bool:
    return "VERB" in parts_of_speech(token.low) or "AUX" in parts_of_speech(token.low)
