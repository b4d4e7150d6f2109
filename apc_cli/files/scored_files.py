"""Scored rows on their way into a file, kept through a kill, and made into the format of its name.

Whatever the output will be, rows are first appended as JSON Lines to a hidden file beside it, with
a note of how many of them are sure. The same command, given again, goes on behind those. The output
itself appears, whole, at the end.
"""

import csv
import fcntl
import gzip
import io
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from apc_cli.errors import ApcError, ConfigError, TryAgainLater

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Row = dict[str, Any]
_STEERING = re.compile("[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""DEL, C1 controls, line separators and bidirectional marks: JSON lets them stand as they are."""
_FOREIGN = (
    ".xlsx", ".xls", ".ods", ".tsv", ".arrow", ".feather", ".orc", ".avro", ".bz2", ".xz", ".zip",
)  # fmt: skip
"""Endings that promise a format that nothing here writes."""


class Sink(Protocol):
    """Where scored rows go, a shard at a time."""

    done: int
    """Rows that an earlier, killed run has left here."""

    def write(self, rows: Sequence[Row], totals: dict[str, Any]) -> None:
        """Adds a shard; `totals` is what a later run will need to go on."""

    def kept(self) -> dict[str, Any]:
        """The totals as of `done`."""


class Stream:
    """Stdout, a pipe, a device: rows leave at once and cannot be called back."""

    done = 0

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, rows: Sequence[Row], totals: dict[str, Any]) -> None:
        self._file.write(as_lines(rows))
        self._file.flush()

    def kept(self) -> dict[str, Any]:
        return {}


class Partial:
    """The hidden file beside the output, open for one run at a time."""

    def __init__(self, target: Path, run: str) -> None:
        """`run` tells runs apart: rows of another input or of other settings are thrown away.

        Raises:
            TryAgainLater: another process writes the same output.
        """
        self.path = target.with_name(f".{target.name}.partial")
        self._note = target.with_name(f".{target.name}.partial.json")
        self._run = run
        self._file = self.path.open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise TryAgainLater(f"another apc is writing {target}", "wait for it") from None
        self._state = self._read_note()
        self.done = self._state["rows"]
        self._file.truncate(self._state["bytes"])
        self._file.seek(0, os.SEEK_END)

    def write(self, rows: Sequence[Row], totals: dict[str, Any]) -> None:
        self._file.write(as_lines(rows))
        self._file.flush()
        os.fsync(self._file.fileno())
        rows_now = self._state["rows"] + len(rows)
        self._state |= {"rows": rows_now, "bytes": self._file.tell(), "totals": totals}
        scratch = self._note.with_name(f"{self._note.name}.tmp")
        scratch.write_text(json.dumps(self._state), encoding="utf-8")
        scratch.replace(self._note)

    def kept(self) -> dict[str, Any]:
        return dict(self._state["totals"])

    def note(self, key: str, value: Any) -> Any:
        """What an earlier run noted under the key, else `value`, which is noted now."""
        return self._state["notes"].setdefault(key, value)

    def finish(self, target: Path) -> None:
        """Makes the output of the rows, in the format of its name, and removes what is hidden."""
        write = _writer(target.name)
        if write is None:
            self.path.replace(target)
        else:
            scratch = target.with_name(f".{target.name}.tmp")
            try:
                with scratch.open("wb") as out:
                    write(self.path, out)
                    out.flush()
                    os.fsync(out.fileno())
                scratch.replace(target)
            finally:
                scratch.unlink(missing_ok=True)
            self.path.unlink()
        self._note.unlink(missing_ok=True)

    def close(self) -> None:
        """Lets another run go on; what holds no row is removed."""
        if not self._state["rows"]:
            self.path.unlink(missing_ok=True)
            self._note.unlink(missing_ok=True)
        self._file.close()

    def _read_note(self) -> dict[str, Any]:
        fresh = {"run": self._run, "rows": 0, "bytes": 0, "totals": {}, "notes": {}}
        try:
            state = json.loads(self._note.read_text(encoding="utf-8"))
            there = state["bytes"] <= self.path.stat().st_size
            return state if state["run"] == self._run and there else fresh
        except (OSError, ValueError, KeyError, TypeError):
            return fresh


@contextmanager
def sink(output: str, run: Callable[[], str]) -> Iterator[Stream | Partial]:
    """Where `output` says: stdout, a device, or a file that is there only once it is whole."""
    path = Path(output)
    with ExitStack() as stack:
        if output == "-":
            yield Stream(sys.stdout.buffer)
        elif path.exists() and not path.is_file():
            yield Stream(stack.enter_context(path.open("wb")))
        else:
            partial = Partial(path, run())
            stack.callback(partial.close)
            yield partial
            partial.finish(path)


def check_format(output: str) -> None:
    """Refuses what could not be written at the end.

    Raises:
        ConfigError: packed Parquet, which packs itself, or a format that is none of ours.
    """
    stem, packed = _stem(output)
    if stem.endswith(_FOREIGN):
        raise ConfigError(
            f"{output}: apc does not write that format",
            "use .jsonl, .csv (plain, .gz or .zst) or .parquet",
        )
    if packed and stem.endswith(".parquet"):
        raise ConfigError(f"{output}: Parquet is packed already", f"write {stem}")


def as_lines(rows: Sequence[Row]) -> bytes:
    """The rows as JSON Lines; what could steer a terminal or break a line is escaped in them."""
    lines = (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    escaped = _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", "".join(lines))
    return escaped.encode("utf-8")


def _stem(name: str) -> tuple[str, str]:
    """(name without .gz or .zst, which of them it had)."""
    for packed in (".gz", ".zst"):
        if name.lower().endswith(packed):
            return name[: -len(packed)].lower(), packed
    return name.lower(), ""


def _writer(name: str) -> Callable[[Path, BinaryIO], None] | None:
    """What makes the output of JSON Lines; None where those are the output."""
    stem, packed = _stem(name)
    if stem.endswith(".parquet"):
        return _write_parquet
    write = _write_csv if stem.endswith(".csv") else _copy
    if not packed:
        return None if write is _copy else write

    def write_packed(source: Path, out: BinaryIO) -> None:
        if packed == ".gz":  # without name and time: equal rows make equal files
            packer: Any = gzip.GzipFile(filename="", mode="wb", fileobj=out, mtime=0)
        else:
            packer = zstd.ZstdFile(out, "wb")
        with packer:
            write(source, packer)

    return write_packed


def _copy(source: Path, out: BinaryIO) -> None:
    with source.open("rb") as rows:
        shutil.copyfileobj(rows, out)


def _rows(source: Path) -> Iterator[Row]:
    with source.open("rb") as lines:
        yield from map(json.loads, lines)


def _write_csv(source: Path, out: BinaryIO) -> None:
    """One column a key, one for each number of the score; lists and objects are JSON."""
    columns = list(dict.fromkeys(key for row in _rows(source) for key in _flat(row)))
    text = io.TextIOWrapper(out, encoding="utf-8", newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(_flat, _rows(source)))
    text.flush()
    text.detach()


def _flat(row: Row) -> Row:
    flat: Row = {}
    for key, value in row.items():
        if key == "apc":
            flat |= {f"apc.{name}": _cell(number) for name, number in value.items()}
        else:
            flat[key] = _cell(value)
    return flat


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


def _write_parquet(source: Path, out: BinaryIO) -> None:
    from apc_cli.files.parquet_rows import write  # noqa: PLC0415 - only for Parquet

    write(lambda: _rows(source), out)


def describe(error: OSError, output: str) -> ApcError:
    """A failed write as one line."""
    return ApcError(f"cannot write {output}: {error.strerror or error}", "choose another -o")
