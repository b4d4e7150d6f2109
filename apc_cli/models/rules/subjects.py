"""Where the character is the subject, and what that says of the pronouns that follow."""

from collections.abc import Sequence

from apc_cli.models.rules.banks import words
from apc_cli.models.rules.predicates import SUBORDINATORS, coordinated, finite_after
from apc_cli.models.rules.pronouns import Pronouns
from apc_cli.models.rules.tokens import Token
from apc_cli.models.rules.verbs import parts_of_speech

_LEAD_LIMIT = 12
_NEARBY = frozenset("around behind with before about near above below beside past over".split())


def subject_at(tokens: Sequence[Token], index: int, own: Pronouns | None) -> int | None:
    """The position after the subject at `index`, if the subject is the character."""
    if index >= len(tokens):
        return None
    token = tokens[index]
    following = tokens[index + 1] if index + 1 < len(tokens) else None
    if token.name and not (following and following.is_clitic):
        return index + 1
    return index + 1 if own is not None and token.low == own.subject else None


def main_subject_index(tokens: Sequence[Token], own: Pronouns | None) -> int | None:
    """Where the character is subject of the main clause, after a short lead at most."""
    if subject_at(tokens, 0, own) is not None:
        return 0
    if tokens and tokens[0].low in words("clause_starters"):
        return None
    for index in range(1, min(len(tokens), _LEAD_LIMIT)):
        if tokens[index - 1].text == "," and subject_at(tokens, index, own) is not None:
            return index if finite_after(tokens, index + 1) is not None else None
    return None


def bound_away(tokens: Sequence[Token], index: int, own: Pronouns) -> bool:
    """Must the object pronoun at `index` mean someone other than the subject before it?

    "Alice wrote a song for her" is about another "her"; "the people around her" need not be.
    Call it only where the clause's subject is the character or has been left out.
    """
    before = tokens[index - 1].low if index else ""
    if before in _NEARBY:
        return False
    following = tokens[index + 1] if index + 1 < len(tokens) else None
    if own.object == own.possessive and following is not None and following.is_word:
        return False
    subjects = (i for i in range(index - 1, -1, -1) if subject_at(tokens, i, own) is not None)
    verb = finite_after(tokens, next(subjects, -1) + 1)
    if verb is None or verb >= index:
        return False
    more = coordinated(tokens, verb, strict=False)
    verb = max([verb, *(place for place in more if place < index)])
    return not any(_may_open_clause(token) for token in tokens[verb + 1 : index])


def _may_open_clause(token: Token) -> bool:
    if token.low in SUBORDINATORS or token.low == "to":
        return True
    kinds = parts_of_speech(token.low)
    return bool(kinds & {"VERB", "AUX"}) and not kinds & {"NOUN", "ADJ"}
