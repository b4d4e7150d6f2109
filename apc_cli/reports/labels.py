"""How a teacher's labels are spread, where they come from, and how far it agrees with itself."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from apc_cli.records import NliExample, RelevanceExample


def label_report(
    relevance: Sequence[RelevanceExample], nli: Sequence[NliExample]
) -> dict[str, dict[str, Any]]:
    """Rows, share of each label, sources, and agreement of what was written with what was judged.

    A query was written to ask for its own statement, a reply to say one thing of it; rows about
    other statements were written for nothing and do not count for agreement.
    """
    wanted = [row.label == "yes" for row in relevance if row.statement == row.asked_of]
    meant = [row.label == row.written_as for row in nli if row.statement == row.written_for]
    return {"relevance": _row(relevance, wanted), "nli": _row(nli, meant)}


def _row(
    rows: Sequence[RelevanceExample] | Sequence[NliExample], as_written: Sequence[bool]
) -> dict[str, Any]:
    labels = Counter(row.label for row in rows)
    return {
        "rows": len(rows),
        "labels": {label: round(n / len(rows), 4) for label, n in sorted(labels.items())},
        "sources": dict(Counter(row.source for row in rows)),
        "written": len(as_written),
        "as_written": round(sum(as_written) / len(as_written), 4) if as_written else None,
    }
