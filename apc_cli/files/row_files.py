"""Rows from files and into files: JSON Lines, CSV and Parquet, plain or packed with gzip or zstd.

CSV is told by its name, packing and Parquet by the first bytes, anything else is JSON Lines; so
stdin can be any of them but CSV. A directory is the files in it, in the order of their names.
"""

import csv
import gzip
import hashlib
import io
import json
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from datetime import date, datetime, time
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from apc_cli.errors import ConfigError, DataError
from apc_cli.files import jsonl

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_GZIP, _ZSTD, _PARQUET = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PAR1"
_SUFFIXES = (".jsonl", ".json", ".ndjson", ".csv", ".parquet")
_PACKED = ("", ".gz", ".zst")
_CELL = 64 * 2**20

Placed = tuple[str, dict[str, Any] | DataError]
"""Where a row is, and the row, or what is wrong there."""


class RowFile:
    """One file of rows that can be read again and again; it is open only while it is read."""

    def __init__(self, name: str, open_it: Callable[[], AbstractContextManager[BinaryIO]]) -> None:
        self.name, self._open = name, open_it

    def rows(self, hint: str) -> Iterator[Placed]:
        """Every row with its place; `hint` says what a row is.

        Raises:
            DataError: nothing further can be read after a row, or from the start.
        """
        try:
            with self._opened() as stream, ExitStack() as stack:
                yield from self._parsed(_unpacked(stream, stack), hint)
        except (gzip.BadGzipFile, zlib.error, zstd.ZstdError, EOFError) as error:
            raise DataError(f"{self.name} is damaged: {error}", "copy or pack it again") from None
        except OSError as error:
            raise DataError(f"{self.name} cannot be read: {_first_line(error)}") from None

    def digest(self) -> str:
        """The SHA-256 of the bytes as they are."""
        with self._opened() as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    @contextmanager
    def _opened(self) -> Iterator[BinaryIO]:
        with self._open() as stream:
            stream.seek(0)
            yield stream

    def _parsed(self, stream: BinaryIO, hint: str) -> Iterator[Placed]:
        start = stream.read(4)
        stream.seek(0)
        if start == _PARQUET:
            return _parquet_rows(stream, self.name)
        stem = self.name.removesuffix(".gz").removesuffix(".zst")
        if stem.lower().endswith(".csv"):
            return _csv_rows(stream, self.name, hint)
        return jsonl.placed_rows(stream, self.name, hint)


@contextmanager
def opened(where: str) -> Iterator[list[RowFile]]:
    """The files of a path, a directory, a URI such as s3://bucket/folder, or `-` for stdin.

    Raises:
        ConfigError: it does not exist.
        DataError: it cannot be read, or is a directory without such files.
    """
    if where == "-":
        with jsonl.copied(sys.stdin.buffer) as copy:
            yield [RowFile("stdin", lambda: nullcontext(copy))]
    elif "://" in where:
        yield _remote(where)
    elif Path(where).is_dir():
        paths = [p for p in sorted(Path(where).iterdir()) if _has_rows(p.name)]
        if not paths:
            kinds = ", ".join(_SUFFIXES)
            raise DataError(f"{where} is a directory without rows", f"in it: {kinds} files")
        yield [RowFile(str(path), partial(jsonl.open_source, path)) for path in paths]
    else:
        with jsonl.open_source(Path(where)) as stream:  # once: it may be a pipe
            yield [RowFile(where, lambda: nullcontext(stream))]


def _has_rows(name: str) -> bool:
    return any(name.lower().endswith(kind + packed) for kind in _SUFFIXES for packed in _PACKED)


def _remote(uri: str) -> list[RowFile]:
    """The files of a URI that pyarrow knows; its credentials come from the environment."""
    from pyarrow import ArrowInvalid, fs  # noqa: PLC0415 - only for remote files

    try:
        system, path = fs.FileSystem.from_uri(uri)
        [found] = system.get_file_info([path])
        names = [path]
        if found.type == fs.FileType.Directory:
            listed = system.get_file_info(fs.FileSelector(path))
            names = sorted(f.path for f in listed if f.is_file and _has_rows(f.base_name))
    except (OSError, ArrowInvalid) as error:
        reason = _first_line(error)
        raise ConfigError(f"{uri} cannot be opened: {reason}", "check the address") from None
    if found.type == fs.FileType.NotFound:
        raise ConfigError(f"{uri} does not exist", "check the address")
    if not names:
        raise DataError(f"{uri} is a folder without rows", f"in it: {', '.join(_SUFFIXES)} files")
    return [RowFile(name, lambda name=name: _remote_file(system, name)) for name in names]


def _remote_file(system: Any, name: str) -> BinaryIO:
    return io.BufferedReader(system.open_input_file(name))


def _first_line(error: Exception) -> str:
    return str(error).split("\n")[0]


def _unpacked(stream: BinaryIO, stack: ExitStack) -> BinaryIO:
    start = stream.read(4)
    stream.seek(0)
    if start.startswith(_GZIP):
        return stack.enter_context(gzip.GzipFile(fileobj=stream))  # type: ignore[return-value]
    if start.startswith(_ZSTD):
        return stack.enter_context(zstd.ZstdFile(stream))  # type: ignore[return-value]
    return stream


def _csv_rows(stream: BinaryIO, name: str, hint: str) -> Iterator[Placed]:
    """A header and records; an empty cell is no value; `statements` and `history` are JSON."""
    csv.field_size_limit(_CELL)
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
    try:
        reader = csv.DictReader(text, strict=True)
        header = reader.fieldnames or []
        if len(set(header)) != len(header):
            raise DataError(f"{name}: a column is there twice", hint)
        for record in reader:
            place = f"{name} line {reader.line_num}"
            yield place, _csv_row(record, place, hint)
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: not UTF-8 ({error.reason})", "save the file as UTF-8") from None
    except csv.Error as error:
        raise DataError(f"{name} after line {reader.line_num}: {error}", hint) from None
    finally:
        text.detach()


def _csv_row(record: dict[Any, Any], place: str, hint: str) -> dict[str, Any] | DataError:
    if None in record or None in record.values():
        return DataError(f"{place}: more or fewer cells than the header has", hint)
    row = {key: cell for key, cell in record.items() if cell or key in ("query", "response")}
    for key in {"statements", "history"} & set(row):
        try:
            row[key] = json.loads(row[key])
        except ValueError:
            return DataError(f'{place}: `{key}` must be JSON, as in ["She sings."]', hint)
    return row


def _parquet_rows(stream: BinaryIO, name: str) -> Iterator[Placed]:
    from pyarrow import ArrowException, parquet  # noqa: PLC0415 - only for Parquet

    try:
        number = 0
        for batch in parquet.ParquetFile(stream).iter_batches(batch_size=256):
            for row in batch.to_pylist():
                number += 1
                place = f"{name} row {number}"
                yield place, {key: _plain(value, place) for key, value in row.items()}
    except (ArrowException, OSError) as error:
        reason = str(error).split("\n")[0]
        raise DataError(f"{name} cannot be read as Parquet: {reason}") from None


def _plain(value: Any, place: str) -> Any:
    """The value as JSON knows it: NaN is nothing, dates are text."""
    if isinstance(value, list):
        return [_plain(item, place) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item, place) for key, item in value.items()}
    if isinstance(value, float) and (value != value or value in (float("inf"), -float("inf"))):
        return None
    if isinstance(value, (datetime, date, time, Decimal)):
        return str(value)
    if isinstance(value, bytes):
        raise DataError(f"{place}: bytes are no text", "leave that column out")
    return value
