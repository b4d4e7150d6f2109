"""What is wrong with a persona's statements, found with the discriminators that score it.

Two statements are compared by letting the character say one of them as a reply: the NLI
discriminator tells what that makes of the other. What it takes for a contradiction counts only
where the words leave no room for both: it was not taught that who likes tea may like coffee, too.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from apc_cli.models.rules.exclusion import are_turned_round, may_exclude
from apc_cli.models.rules.wording import facts_in_each, is_vague, told_by
from apc_cli.prompts import interview_questions
from apc_cli.records import NLI_LABELS

if TYPE_CHECKING:
    from apc_cli.models.judging.scorer import Scorer
    from apc_cli.progress import Progress

_CONTRADICTED, _ENTAILED = (NLI_LABELS.index(label) for label in ("contradicted", "entailed"))
_LIKELY = 0.5
_SURE = 0.75
_BOTH_WAYS = 0.1
"""What is less sure is a duplicate only if each statement is somewhat implied by the other."""
_BATCH = 16


@dataclass(frozen=True)
class Finding:
    """One thing to mend.

    Attributes:
        problem: duplicate, contradiction, compound, vague or never asked.
        statements: their numbers, from 1.
        texts: the statements.
        probability: how sure the discriminators are (of what no query asks for, one minus its
            highest relevance); None where a rule found it.
        fix: what to do.
    """

    problem: str
    statements: tuple[int, ...]
    texts: tuple[str, ...]
    probability: float | None
    fix: str

    def row(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def run(
    character: str,
    statements: Sequence[str],
    queries: Sequence[str],
    language: str,
    scorer: "Scorer",
    progress: "Progress",
) -> list[Finding]:
    """All findings; without `queries` of the persona nothing counts as never asked."""
    verdicts = _each_told(character, statements, language, scorer, progress)
    found = [*_clashes(character, statements, verdicts), *_worded(character, statements)]
    if queries:
        asked = [*interview_questions(language), *queries]
        found += _never_asked(character, statements, asked, scorer, progress)
    return found


def _each_told(
    character: str,
    statements: Sequence[str],
    language: str,
    scorer: "Scorer",
    progress: "Progress",
) -> np.ndarray:
    """What each statement, told as a reply, makes of each: (told, statements, NLI_LABELS)."""
    query = interview_questions(language)[0]
    told = told_by(character, statements)
    parts = []
    with progress.task("Comparing statements", len(told)) as task:
        for start in range(0, len(told), _BATCH):
            replies = told[start : start + _BATCH]
            items = [(character, s, query, reply) for reply in replies for s in statements]
            parts.append(scorer.verdicts(items).reshape(len(replies), len(statements), -1))
            task.advance(len(replies))
    return np.concatenate(parts)


def _clashes(character: str, statements: Sequence[str], verdicts: np.ndarray) -> Iterator[Finding]:
    for one in range(len(statements)):
        for other in range(one + 1, len(statements)):
            both = verdicts[one, other], verdicts[other, one]
            if finding := _clash(character, statements, one, other, *both):
                yield finding


def _clash(
    character: str,
    statements: Sequence[str],
    one: int,
    other: int,
    there: np.ndarray,
    back: np.ndarray,
) -> Finding | None:
    """What two statements are to each other, by what telling either makes of the other."""
    numbers, texts = (one + 1, other + 1), (statements[one], statements[other])
    against = float(there[_CONTRADICTED] + back[_CONTRADICTED]) / 2
    if against > _LIKELY and may_exclude(character, *texts):
        fix = "keep the one that is true, or say how both can be"
        return Finding("contradiction", numbers, texts, against, fix)
    least, implied = sorted((float(there[_ENTAILED]), float(back[_ENTAILED])))
    sure = implied > _SURE or (implied > _LIKELY and least > _BOTH_WAYS)
    if not sure or are_turned_round(character, *texts):
        return None
    kept, spare = (one, other) if there[_ENTAILED] >= back[_ENTAILED] else (other, one)
    fix = f"drop {spare + 1}, if {kept + 1} says all of it"
    return Finding("duplicate", numbers, texts, implied, fix)


def _worded(character: str, statements: Sequence[str]) -> Iterator[Finding]:
    each = zip(statements, facts_in_each(character, statements), strict=True)
    for number, (statement, facts) in enumerate(each, start=1):
        if len(facts) > 1:
            fix = "split it, for example: " + " | ".join(facts)
            yield Finding("compound", (number,), (statement,), None, fix)
        elif is_vague(character, statement):
            fix = "say what, whom, where or when"
            yield Finding("vague", (number,), (statement,), None, fix)


def _never_asked(
    character: str,
    statements: Sequence[str],
    queries: Sequence[str],
    scorer: "Scorer",
    progress: "Progress",
) -> list[Finding]:
    most = np.zeros(len(statements))
    with progress.task("Looking for queries", len(queries)) as task:
        for query in queries:
            most = np.maximum(most, scorer.relevance(character, statements, query))
            task.advance()
    return [
        Finding(
            "never asked",
            (number,),
            (statement,),
            float(1 - highest),
            f"no query asks for it ({len(queries)} looked at): drop it, or ask for it",
        )
        for number, (statement, highest) in enumerate(zip(statements, most, strict=True), start=1)
        if highest < _LIKELY
    ]
