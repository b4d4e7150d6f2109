"""One sentence about the character cut into clauses that each stand alone.

Tokens in, tokens out: where a cut could break the sense, the sentence stays whole.
"""

from collections.abc import Sequence
from dataclasses import replace

from apc_cli.models.rules.banks import words
from apc_cli.models.rules.predicates import (
    CONJUNCTIONS,
    SUBORDINATORS,
    coordinated,
    finite_after,
)
from apc_cli.models.rules.pronouns import Pronouns
from apc_cli.models.rules.reorder import apposition_end
from apc_cli.models.rules.subjects import bound_away, main_subject_index, subject_at
from apc_cli.models.rules.tokens import Token, strip_end, word
from apc_cli.models.rules.verbs import (
    BE_HAVE,
    is_base_verb,
    is_finite,
    is_noun,
    is_plural_noun,
    is_third_person,
)

Clause = list[Token]
_CLAUSE_JOINTS = frozenset({"and", "but"})


def split(tokens: Sequence[Token], own: Pronouns | None) -> list[Clause]:
    """The clauses of a sentence, each with its subject."""
    clauses = [strip_end(tokens)]
    for cut in (_cut_joints, _cut_apposition, _cut_leading, _cut_relative, _cut_predicates):
        clauses = [part for clause in clauses for part in cut(clause, own)]
    return clauses


def _possessive_subject(tokens: Sequence[Token], index: int, own: Pronouns | None) -> bool:
    """Does a clause start here whose subject is something of the character's?"""
    token = tokens[index]
    owned = token.name and index + 1 < len(tokens) and tokens[index + 1].is_clitic
    if not owned and not (own is not None and token.low == own.possessive):
        return False
    for place in range(index + 2, min(index + 7, len(tokens))):
        if is_finite(tokens[place].low):
            return is_noun(tokens[place - 1])
        plural = is_plural_noun(tokens[place - 1].low)
        if plural and is_base_verb(tokens[place].low):
            return True
        if tokens[place].low in CONJUNCTIONS or not tokens[place].is_word:
            return False
    return False


def _cut_joints(clause: Clause, own: Pronouns | None) -> list[Clause]:
    """Cuts before "and she ..." and "but his ...", and at semicolons."""
    parts: list[Clause] = []
    start = 0
    for index in range(1, len(clause) - 1):
        token = clause[index]
        joint = token.low in _CLAUSE_JOINTS or token.text == ";"
        if not joint or not _starts_clause(clause, index + 1, own):
            continue
        left, right = clause[start:index], clause[index + 1 :]
        if _can_stand(left, own) and not _has_anaphor(right, own):
            parts.append(strip_end(left))
            start = index + 1
    parts.append(strip_end(clause[start:]))
    return parts if len(parts) > 1 else [clause]


def _starts_clause(tokens: Clause, index: int, own: Pronouns | None) -> bool:
    after = subject_at(tokens, index, own)
    if after is not None:
        return finite_after(tokens, after) is not None
    return _possessive_subject(tokens, index, own)


def _can_stand(tokens: Clause, own: Pronouns | None) -> bool:
    """Is this a main clause whose last part is not a subordinate one?"""
    kept = strip_end(tokens)
    if len(kept) < 2 or kept[0].low in {"if", "unless", "although", "though", "while", "both"}:
        return False
    if kept[0].low in SUBORDINATORS and not any(token.text == "," for token in kept):
        return False
    if "that" in {token.low for token in kept} and kept[-1].text != ",":
        said = any(token.low in words("saying_forms") for token in kept)
        if said:
            return False
    starts = main_subject_index(kept, own) is not None or kept[0].low in words("clause_starters")
    return starts or kept[0].name


def _has_anaphor(tokens: Sequence[Token], own: Pronouns | None) -> bool:
    ours = own.forms() if own else frozenset()
    if any(token.low in words("anaphors") and token.low not in ours for token in tokens):
        return True
    return own is not None and any(
        token.low == own.object and bound_away(tokens, index, own)
        for index, token in enumerate(tokens)
    )


def _cut_apposition(clause: Clause, own: Pronouns | None) -> list[Clause]:
    """From "Alice, a guitarist, lives", makes "Alice is a guitarist" and "Alice lives"."""
    name = next((i for i, token in enumerate(clause) if token.name), None)
    if name is None or name > 0:
        return [clause]
    end = apposition_end(clause, name)
    if end is None:
        return [clause]
    inner = clause[name + 2 : end]
    rest = [clause[name], *clause[end + 1 :]]
    if inner[0].low == "who":
        return [[clause[name], *inner[1:]], rest]
    return [[clause[name], word(_copula(rest, inner)), *_years(inner)], rest]


def _copula(main: Clause, inner: Sequence[Token]) -> str:
    verb = finite_after(main, 1)
    past = verb is not None and not is_third_person(main[verb].low)
    return "was" if inner[0].low in {"born", "once", "originally", "formerly"} or past else "is"


def _years(inner: Sequence[Token]) -> Clause:
    if len(inner) == 1 and inner[0].text.isdigit():
        return [inner[0], word("years"), word("old")]
    return list(inner)


def _cut_leading(clause: Clause, own: Pronouns | None) -> list[Clause]:
    """From "A guitarist, Alice lives" and "Born in Lyon, Alice moved"  makes two clauses."""
    index = main_subject_index(clause, own)
    if not index or clause[0].low not in {"a", "an", "born", "raised"}:
        return [clause]
    lead = strip_end(clause[:index])
    if any(token.text == "," or token.low in SUBORDINATORS for token in lead):
        return [clause]
    rest = clause[index:]
    verb = "was" if lead[0].low in {"born", "raised"} else _copula(rest, lead)
    return [[clause[index], word(verb), word(lead[0].low), *lead[1:]], rest]


def _cut_relative(clause: Clause, own: Pronouns | None) -> list[Clause]:
    """From "Alice is a guitarist who lives in Lyon", makes two clauses."""
    index = main_subject_index(clause, own)
    if index is None:
        return [clause]
    verb = finite_after(clause, index + 1)
    who = next((i for i, token in enumerate(clause) if token.low in {"who", "where"}), None)
    if verb is None or who is None or who + 1 >= len(clause):
        return [clause]
    if clause[who].low == "where":
        return _cut_where(clause, index, who, own)
    plain = clause[verb].low in {"is", "was"} and clause[verb + 1].low in {"a", "an", "the"}
    between = {token.low for token in clause[verb + 2 : who]}
    if not plain or between & (SUBORDINATORS | words("prepositions") | {","}):
        return [clause]
    if not is_finite(clause[who + 1].low) and finite_after(clause, who + 1) is None:
        return [clause]
    return [clause[:who], [*clause[: index + 1], *clause[who + 1 :]]]


def _cut_where(clause: Clause, index: int, where: int, own: Pronouns | None) -> list[Clause]:
    """From "Alice lives in Lyon, where she works", makes a second "In Lyon, Alice works"."""
    place = next((i for i in range(index, where) if clause[i].low in {"in", "at"}), None)
    after = subject_at(clause, where + 1, own)
    if place is None or after is None or clause[where - 1].text != ",":
        return [clause]
    where_at = strip_end(clause[place:where])
    if len(where_at) > 6 or any(token.text == "," for token in where_at):
        return [clause]
    lead = [word(where_at[0].text.capitalize()), *where_at[1:], word(",", space=False)]
    subject = replace(clause[index], space=True)
    return [clause[:where], [*lead, subject, *clause[after:]]]


def _cut_predicates(clause: Clause, own: Pronouns | None) -> list[Clause]:
    """From "Alice teaches and plays", makes "Alice teaches" and "Alice plays"."""
    index = main_subject_index(clause, own)
    verb = None if index is None else finite_after(clause, index + 1)
    if index is None or verb is None:
        return [clause]
    others = coordinated(clause, verb, strict=True)
    starts = [_piece_start(clause, place) for place in others]
    if not others or any(clause[start - 1].low in {"or", "nor"} for start in starts):
        return [clause]
    ends = [_piece_end(clause, start) for start in starts] + [len(clause)]
    pieces = [clause[verb : ends[0]]]
    pieces += [clause[start:end] for start, end in zip(starts, ends[1:], strict=True)]
    if not _all_stand(pieces, own):
        return [clause]
    head = clause[: index + 1]
    first = [*clause[:verb], *pieces[0]]
    return [strip_end(first), *(strip_end([*head, *piece]) for piece in pieces[1:])]


def _piece_start(clause: Clause, place: int) -> int:
    """Goes back from a verb over the adverbs before it."""
    while clause[place - 1].low not in CONJUNCTIONS and clause[place - 1].text != ",":
        place -= 1
    return place


def _piece_end(clause: Clause, start: int) -> int:
    """Goes back from a piece over the conjunction and comma before it."""
    while clause[start - 1].low in CONJUNCTIONS or clause[start - 1].text == ",":
        start -= 1
    return start


def _all_stand(pieces: Sequence[Clause], own: Pronouns | None) -> bool:
    for piece in pieces[:-1]:
        if len(piece) < 2 and piece[0].low not in BE_HAVE:
            return False
        if len(piece) < 2 or piece[-1].low in words("prepositions") - words("particles"):
            return False
    return not any(_has_anaphor(piece, own) for piece in pieces[1:])
