"""APC of each row of a JSONL file, in constant memory and in the file's order."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

from apc_cli import jsonl
from apc_cli.errors import ApcError, DataError
from apc_cli.histories import HISTORY_HINT, is_history, query_in_context

if TYPE_CHECKING:
    from apc_cli.models.scorer import Scorer
    from apc_cli.progress import Progress

SHARD = 256
"""Rows scored together, fixed by position: results do not depend on the file's length."""


@dataclass
class Totals:
    """Sums over scored rows, for the summary and the gate."""

    rows: int = 0
    scored: int = 0
    statements: int = 0
    sums: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)

    def mean(self, key: str) -> float:
        """The mean of one of the four numbers over scored rows."""
        return self.sums[key] / self.scored if self.scored else 0.0


StatementsOf = Callable[[str | None], list[str]]
"""The persona statements of a named character, for rows that do not bring their own."""


def validate(source: BinaryIO, name: str) -> int:
    """Reads every line before any model is loaded; returns the number of rows.

    Raises:
        DataError: a line that is not a row, or an id that comes twice.
    """
    rows = 0
    first_line: dict[str, int] = {}
    for number, row in jsonl.rows(source, name, _ROW_HINT):
        rows += 1
        for key in ("query", "response"):
            if not isinstance(row.get(key), str):
                raise DataError(f"{name} line {number}: `{key}` must be text", _ROW_HINT)
        _check_persona(row, f"{name} line {number}")
        if not is_history(row.get("history") or []):
            raise DataError(f"{name} line {number}: `history` is none", HISTORY_HINT)
        if (identity := row.get("id")) is not None:
            earlier = first_line.setdefault(json.dumps(identity), number)
            if earlier != number:
                raise DataError(f"{name}: id {identity!r} is on line {earlier} and line {number}")
    if rows == 0:
        raise DataError(f"{name} has no rows", _ROW_HINT)
    return rows


def run(
    source: BinaryIO,
    name: str,
    output: TextIO,
    scorer: "Scorer",
    character: str | None,
    statements_of: StatementsOf,
    rows: int,
    progress: "Progress",
    *,
    explain: bool = False,
) -> Totals:
    """Writes each row with its score, or with an `error` where it cannot be scored."""
    totals = Totals()
    with progress.task("Scoring", rows) as task:
        for shard in _shards(jsonl.rows(source, name, _ROW_HINT)):
            _score_shard(shard, scorer, character, statements_of, explain)
            for row in shard:
                _count(row, totals)
                output.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
            output.flush()
            task.advance(len(shard))
    return totals


_OURS = ("apc", "constraints", "error")
"""Keys that a row gets here; what an earlier run wrote there goes."""

_ROW_HINT = 'a row is {"query": …, "response": …} with optional "character" and "statements"'


def _score_shard(
    shard: list[dict[str, Any]],
    scorer: "Scorer",
    character: str | None,
    statements_of: StatementsOf,
    explain: bool,
) -> None:
    """Adds the score to each row, one batch for all rows of the same persona."""
    groups: dict[tuple[str, tuple[str, ...]], list[dict[str, Any]]] = {}
    for row in shard:
        for key in _OURS:
            row.pop(key, None)
        try:
            who = row.get("character") or character
            statements = row.get("statements") or statements_of(who)
        except ApcError as error:
            row["error"] = str(error)
            continue
        groups.setdefault((who or "the character", tuple(statements)), []).append(row)
    for (who, statements), members in groups.items():
        replies = [
            (query_in_context(row["query"], row.get("history") or ()), row["response"])
            for row in members
        ]
        for row, score in zip(members, scorer.score_all(who, statements, replies), strict=True):
            row |= score.row(explain=explain)


def _count(row: dict[str, Any], totals: Totals) -> None:
    totals.rows += 1
    if "apc" not in row:
        totals.errors[row["error"]] += 1
        return
    totals.scored += 1
    totals.statements += row["apc"]["statements"]
    totals.sums.update({k: v for k, v in row["apc"].items() if isinstance(v, float)})


def _shards(rows: Iterator[tuple[int, dict[str, Any]]]) -> Iterator[list[dict[str, Any]]]:
    shard: list[dict[str, Any]] = []
    for _, row in rows:
        shard.append(row)
        if len(shard) == SHARD:
            yield shard
            shard = []
    if shard:
        yield shard


def _check_persona(row: dict[str, Any], place: str) -> None:
    if not isinstance(row.get("character"), str | None):
        raise DataError(f"{place}: `character` must be text", _ROW_HINT)
    statements = row.get("statements")
    if statements is None:
        return
    texts = isinstance(statements, list) and all(
        isinstance(s, str) and s.strip() for s in statements
    )
    if not texts or not statements:
        raise DataError(f"{place}: `statements` must be a list of texts", _ROW_HINT)
