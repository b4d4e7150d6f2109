"""APC of each row of a JSONL file, in constant memory and in the file's order."""

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

from apc_cli.errors import ApcError, ConfigError, DataError

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
    _check_encoding(source, name)
    rows = 0
    first_line: dict[str, int] = {}
    for number, row in _rows(source, name):
        rows += 1
        for key in ("query", "response"):
            if not isinstance(row.get(key), str):
                raise DataError(f"{name} line {number}: `{key}` must be text", _ROW_HINT)
        _check_persona(row, f"{name} line {number}")
        if (identity := row.get("id")) is not None:
            earlier = first_line.setdefault(json.dumps(identity), number)
            if earlier != number:
                raise DataError(f"{name}: id {identity!r} is on line {earlier} and line {number}")
    if rows == 0:
        raise DataError(f"{name} has no rows", _ROW_HINT)
    source.seek(0)
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
        for shard in _shards(_rows(source, name)):
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
        replies = [(row["query"], row["response"]) for row in members]
        for row, score in zip(members, scorer.score_all(who, statements, replies), strict=True):
            row |= score.row(explain=explain)


def _count(row: dict[str, Any], totals: Totals) -> None:
    totals.rows += 1
    if "apc" not in row:
        totals.errors[row["error"]] += 1
        return
    totals.scored += 1
    totals.statements += row["apc"]["statements"]
    totals.sums.update({k: v for k, v in row["apc"].items() if k != "statements"})


def _shards(rows: Iterator[tuple[int, dict[str, Any]]]) -> Iterator[list[dict[str, Any]]]:
    shard: list[dict[str, Any]] = []
    for _, row in rows:
        shard.append(row)
        if len(shard) == SHARD:
            yield shard
            shard = []
    if shard:
        yield shard


def _rows(source: BinaryIO, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, row); lines end with a newline only, so U+2028 may stand in a string."""
    for number, line in enumerate(source, start=1):
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if line.strip():
            yield number, _parse(line, f"{name} line {number}")


def _parse(line: bytes, place: str) -> dict[str, Any]:
    try:
        row = json.loads(
            line.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant
        )
        json.dumps(row, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{place}: not UTF-8 (byte {error.start})", "save the file as UTF-8"
        ) from None
    except UnicodeEncodeError:
        raise DataError(f"{place}: a lone surrogate is no character") from None
    except RecursionError:
        raise DataError(f"{place}: nested too deeply") from None
    except ValueError as error:
        raise DataError(f"{place}: not JSON: {error}", _ROW_HINT) from None
    if not isinstance(row, dict):
        raise DataError(f"{place}: not an object", _ROW_HINT)
    return row


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) != len(pairs):
        raise ValueError("a key is there twice")
    return row


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


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


def open_source(path: Path) -> BinaryIO:
    """The file, opened for two readings.

    Raises:
        ConfigError: it does not exist.
        DataError: it is no plain file of text lines.
    """
    if not path.exists():
        raise ConfigError(f"{path} does not exist", "check the path, or use - for stdin")
    if path.is_dir():
        raise DataError(f"{path} is a directory", "give one JSONL file")
    try:
        source = path.open("rb")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    return source if source.seekable() else copied(source)


def copied(stream: BinaryIO) -> BinaryIO:
    """A stream that can be read only once, as a temporary file."""
    copy = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    shutil.copyfileobj(stream, copy)
    copy.seek(0)
    return copy


def _check_encoding(source: BinaryIO, name: str) -> None:
    start = source.read(4)
    source.seek(0)
    for unpack, magic in (("zcat", b"\x1f\x8b"), ("zstdcat", b"\x28\xb5\x2f\xfd")):
        if start.startswith(magic):
            raise DataError(f"{name} is compressed", f"unpack it: {unpack} FILE | apc score -")
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{name} is UTF-16", "save it as UTF-8")
