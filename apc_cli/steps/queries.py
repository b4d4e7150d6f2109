"""Persona statements become user queries that ask for them (paper section 4.1)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from apc_cli.errors import DataError
from apc_cli.records import Query, Statement, Summary
from apc_cli.workspace import Workspace

if TYPE_CHECKING:
    from apc_cli.models.teacher import Teacher


def run(
    character: str,
    statements: Sequence[Statement],
    per_statement: int,
    teacher: "Teacher",
    workspace: Workspace,
) -> Summary:
    """Writes queries.jsonl: up to `per_statement` queries for each statement, none twice."""
    texts = [statement.statement for statement in statements]
    answers = teacher.propose_queries(character, texts, per_statement)
    kept: dict[str, Query] = {}
    offered = 0
    for text, queries in zip(texts, answers, strict=True):
        for query in (queries or [])[:per_statement]:
            offered += 1
            kept.setdefault(query, Query(query, text))
    if not kept:
        raise DataError("the teacher proposed no query at all", "check the statements")
    workspace.write_rows("queries.jsonl", kept.values())
    dropped = {"statement failed": answers.count(None), "duplicate": offered - len(kept)}
    return Summary(len(kept), {reason: n for reason, n in dropped.items() if n})
