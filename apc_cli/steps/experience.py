"""The teacher's faithful answers, which the role-play model learns first (paper section 4.2)."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from apc_cli.errors import DataError
from apc_cli.records import Experience, Query, Summary

if TYPE_CHECKING:
    from apc_cli.models.teacher import Teacher
    from apc_cli.progress import Progress
    from apc_cli.workspace import Workspace

_RELEVANT = 0.5


def run(
    character: str,
    queries: Sequence[Query],
    told: Callable[[Query], Sequence[str]],
    teacher: "Teacher",
    workspace: "Workspace",
    progress: "Progress",
) -> Summary:
    """Writes experience.jsonl; `told` names the statements that an answer to a query tells."""
    items = []
    with progress.task("Choosing what answers tell", len(queries)) as task:
        for query in queries:
            items.append((query.query, tuple(told(query))))
            task.advance()
    answers = teacher.write_answers(character, items)
    rows = [
        Experience(query, statements, answer)
        for (query, statements), answer in zip(items, answers, strict=True)
        if answer
    ]
    if not rows:
        raise DataError("the teacher wrote no answer to learn from", "set warm_up.epochs: 0")
    workspace.write_rows("experience.jsonl", rows)
    missing = len(items) - len(rows)
    figures = {"statements an answer": round(sum(len(r.statements) for r in rows) / len(rows), 2)}
    return Summary(len(rows), {"not written": missing} if missing else {}, figures)


def statements_to_tell(
    own: str, shown: Sequence[str], relevance: Sequence[float], least: int, most: int
) -> list[str]:
    """The query's own statement if the model is shown it, then the most relevant of the others.

    All relevant ones are told, up to `most`; less relevant ones only until there are `least`.
    `relevance` are the P_g of the shown statements.
    """
    ranked = sorted(zip(relevance, shown, strict=True), key=lambda pair: -pair[0])
    told = [own] if own in shown else []
    for probability, statement in ranked:
        wanted = len(told) < least or (len(told) < most and probability > _RELEVANT)
        if wanted and statement not in told:
            told.append(statement)
    return told
