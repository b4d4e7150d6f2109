"""Statements and queries become relevance and NLI examples (paper section 4.1).

Every reply is judged again after it was written, and the judged label is the one that counts.
"""

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from apc_cli.errors import DataError
from apc_cli.records import (
    NLI_LABELS,
    RELEVANCE_LABELS,
    NliExample,
    NliItem,
    Probabilities,
    Query,
    RelevanceExample,
    RelevanceItem,
    Summary,
)
from apc_cli.workspace import Workspace

if TYPE_CHECKING:
    from apc_cli.models.teacher import Teacher


def run(
    character: str,
    queries: Sequence[Query],
    other_queries: int,
    other_replies: int,
    seed: int,
    teacher: "Teacher",
    workspace: Workspace,
) -> Summary:
    """Writes relevance.jsonl and nli.jsonl."""
    draw = random.Random(f"label data {seed}")
    asked = _relevance_items(queries, other_queries, draw)
    relevance = _judged_relevance(character, asked, teacher)
    pairs = [(query.statement, query.query) for query in queries]
    written = teacher.write_replies(character, pairs)
    items = _nli_items(queries, written, other_replies, draw)
    nli = _judged_nli(character, items, teacher)
    if not relevance or not nli:
        raise DataError("the teacher labelled nothing", "see the reasons above, then run again")
    workspace.write_rows("relevance.jsonl", relevance)
    workspace.write_rows("nli.jsonl", nli)
    dropped = {
        "relevance not judged": len(asked) - len(relevance),
        "replies not written": written.count(None),
        "NLI not judged": len(items) - len(nli),
    }
    kept = len(relevance) + len(nli)
    return Summary(kept, {reason: n for reason, n in dropped.items() if n})


def _relevance_items(
    queries: Sequence[Query], other_queries: int, draw: random.Random
) -> list[RelevanceItem]:
    """Every query with its own statement, and every statement with some queries of others."""
    items = [RelevanceItem(q.statement, q.query, q.statement) for q in queries]
    for statement in dict.fromkeys(query.statement for query in queries):
        others = [query for query in queries if query.statement != statement]
        chosen = draw.sample(others, min(other_queries, len(others)))
        items += [RelevanceItem(statement, q.query, q.statement) for q in chosen]
    return items


def _nli_items(
    queries: Sequence[Query],
    written: Sequence[dict[str, str] | None],
    other_replies: int,
    draw: random.Random,
) -> list[NliItem]:
    own = [
        NliItem(query.statement, query.query, replies[label], query.statement, label)
        for query, replies in zip(queries, written, strict=True)
        if replies
        for label in NLI_LABELS
    ]
    items = list(own)
    for statement in dict.fromkeys(query.statement for query in queries):
        others = [item for item in own if item.statement != statement]
        for item in draw.sample(others, min(other_replies, len(others))):
            items.append(
                NliItem(statement, item.query, item.response, item.written_for, item.written_as)
            )
    return items


def _judged_relevance(
    character: str, items: Sequence[RelevanceItem], teacher: "Teacher"
) -> list[RelevanceExample]:
    judged = zip(items, teacher.judge_relevance(character, items), strict=True)
    return [
        RelevanceExample(
            i.statement,
            i.query,
            i.asked_of,
            _likeliest(found.probabilities, RELEVANCE_LABELS),
            found.probabilities,
            found.source,
        )
        for i, found in judged
        if found is not None
    ]


def _judged_nli(character: str, items: Sequence[NliItem], teacher: "Teacher") -> list[NliExample]:
    judged = zip(items, teacher.judge_nli(character, items), strict=True)
    return [
        NliExample(
            i.statement,
            i.query,
            i.response,
            i.written_for,
            i.written_as,
            _likeliest(found.probabilities, NLI_LABELS),
            found.probabilities,
            found.source,
        )
        for i, found in judged
        if found is not None
    ]


def _likeliest(probabilities: Probabilities, labels: Sequence[str]) -> str:
    return labels[max(range(len(labels)), key=lambda i: probabilities[i])]
