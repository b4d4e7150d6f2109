"""APC of each row of a file, in constant memory and in the file's order."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from apc_cli.errors import ApcError, DataError
from apc_cli.files.row_files import RowFile
from apc_cli.files.scored_files import Sink
from apc_cli.histories import HISTORY_HINT, is_history
from apc_cli.records import Item

if TYPE_CHECKING:
    from apc_cli.models.judging.engines import Scored, Shard
    from apc_cli.progress import Progress

SHARD = 256
"""Rows scored together, fixed by position: results do not depend on the file's length."""

_OURS = ("apc", "constraints", "error")
"""Keys that a row gets here; what an earlier run wrote there goes."""

_ROW_HINT = 'a row is {"query": …, "response": …} with optional "character" and "statements"'


@dataclass
class Totals:
    """Sums over scored rows, for the summary and the gate."""

    rows: int = 0
    scored: int = 0
    statements: int = 0
    unsure: int = 0
    judged: int = 0
    truncated: int = 0
    sums: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)

    def mean(self, key: str) -> float:
        """The mean of one of the four numbers over scored rows."""
        return self.sums[key] / self.scored if self.scored else 0.0

    def count(self, row: dict[str, Any]) -> None:
        """Adds a row that was scored, or could not be."""
        self.rows += 1
        if "apc" not in row:
            self.errors[row["error"]] += 1
            return
        self.scored += 1
        self.statements += row["apc"]["statements"]
        self.unsure += row["apc"]["unsure"]
        self.judged += row["apc"].get("judged", 0)
        self.sums.update({k: v for k, v in row["apc"].items() if isinstance(v, float)})

    @classmethod
    def of(cls, kept: dict[str, Any]) -> "Totals":
        """What `dataclasses.asdict` made of totals, read back from JSON."""
        counters = {key: Counter(kept[key]) for key in ("sums", "errors") if key in kept}
        return cls(**(kept | counters))


StatementsOf = Callable[[str | None], list[str]]
"""The persona statements of a named character, for rows that do not bring their own."""

Reject = Callable[[str, DataError], None]
"""Takes what is no row, with its place; or raises."""


def refuse(place: str, error: DataError) -> None:
    """The Reject that stops at the first bad row."""
    raise error


class Rows:
    """The rows of files, checked; what is no row goes to `reject`.

    Attributes:
        unnamed: rows with statements of nobody in particular; known once they were checked.
    """

    def __init__(self, files: Sequence[RowFile], reject: Reject = refuse) -> None:
        self._files, self._reject = files, reject
        self.unnamed = 0

    def check(self) -> int:
        """Reads everything before any model is loaded; returns the number of rows.

        Raises:
            DataError: no row at all, an id that comes twice, or what `reject` raises.
        """
        count = 0
        first: dict[str, str] = {}
        for place, row in self._read(self._reject):
            count += 1
            self.unnamed += bool(row.get("statements")) and not row.get("character")
            if (identity := row.get("id")) is not None:
                earlier = first.setdefault(json.dumps(identity), place)
                if earlier != place:
                    raise DataError(f"id {identity!r} is on {earlier} and on {place}")
        if count == 0:
            names = ", ".join(file.name for file in self._files)
            raise DataError(f"{names} has no rows", _ROW_HINT)
        return count

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (row for _, row in self._read(lambda place, error: None))

    def _read(self, reject: Reject) -> Iterator[tuple[str, dict[str, Any]]]:
        for file in self._files:
            for place, row in file.rows(_ROW_HINT):
                problem = row if isinstance(row, DataError) else _problem(row, place)
                if problem:
                    reject(place, problem)
                else:
                    yield place, row  # type: ignore[misc]


def run(
    rows: Iterable[dict[str, Any]],
    count: int,
    resolve: Callable[[dict[str, Any]], Item],
    engine: Callable[[Iterable["Shard"]], Iterator["Scored"]],
    sink: Sink,
    progress: "Progress",
) -> Totals:
    """Writes each row with its score, or with an `error` where it cannot be scored.

    Rows that the sink has from an earlier run are not scored again.
    """
    totals, rows = Totals.of(sink.kept()), iter(rows)
    for _ in islice(rows, sink.done):
        pass
    with progress.task("Scoring", count) as task:
        task.advance(sink.done, f"{sink.done} rows kept" if sink.done else "")
        start, before = time.monotonic(), totals.rows
        for scored, truncated in engine(_shards(map(resolve, rows))):
            for row in scored:
                totals.count(row)
            totals.truncated += truncated
            sink.write(scored, vars(totals))
            rate = (totals.rows - before) / (time.monotonic() - start)
            task.advance(len(scored), f"{rate:.1f} rows/s")
    return totals


def resolved(row: dict[str, Any], character: str | None, statements_of: StatementsOf) -> Item:
    """The row with who speaks in it and about what; without results of an earlier run."""
    row = {k: v for k, v in row.items() if k not in _OURS and not k.startswith("apc.")}
    who = row.get("character") or character
    try:
        statements = tuple(row.get("statements") or statements_of(who))
    except ApcError as error:
        return Item(row, who or "", (), str(error))
    return Item(row, who or "the character", statements)


def _shards(items: Iterator[Item]) -> Iterator["Shard"]:
    while shard := list(islice(items, SHARD)):
        yield shard


def _problem(row: dict[str, Any], place: str) -> DataError | None:
    """What keeps a row from being scored."""
    for key in ("query", "response"):
        if not isinstance(row.get(key), str):
            return DataError(f"{place}: `{key}` must be text", _ROW_HINT)
    if not isinstance(row.get("character"), str | None):
        return DataError(f"{place}: `character` must be text", _ROW_HINT)
    if not is_history(row.get("history") or []):
        return DataError(f"{place}: `history` is none", HISTORY_HINT)
    statements = row.get("statements")
    if statements is None:
        return None
    texts = isinstance(statements, list) and all(
        isinstance(s, str) and s.strip() for s in statements
    )
    if texts and statements:
        return None
    return DataError(f"{place}: `statements` must be a list of texts", _ROW_HINT)
