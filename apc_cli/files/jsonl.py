"""JSON Lines from anybody: one object a line, or an error that names the line."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from math import isinf
from pathlib import Path
from typing import Any, BinaryIO

from apc_cli.errors import ConfigError, DataError


def placed_rows(
    source: BinaryIO, name: str, hint: str
) -> Iterator[tuple[str, dict[str, Any] | DataError]]:
    """(place, row) from where the source stands, or the error in place of a line that is no row.

    Raises:
        DataError: the file is not text at all.
    """
    _check_encoding(source, name)
    for number, line in _lines(source):
        place = f"{name} line {number}"
        try:
            yield place, _parse(line, place, hint)
        except DataError as error:
            yield place, error


def _lines(source: BinaryIO) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(source, start=1):
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if line.strip():
            yield number, line


def open_source(path: Path) -> BinaryIO:
    """The file, opened for two readings.

    Raises:
        ConfigError: it does not exist.
        DataError: it is no plain file of text lines.
    """
    if not path.exists():
        raise ConfigError(f"{path} does not exist", "check the path, or use - for stdin")
    if path.is_dir():
        raise DataError(f"{path} is a directory", "give a file of rows in its place")
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


def _parse(line: bytes, place: str, hint: str) -> dict[str, Any]:
    try:
        row = _DECODER.decode(line.decode("utf-8"))
        if b"\\ud" in line or b"\\uD" in line:
            json.dumps(row, ensure_ascii=False).encode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{place}: not UTF-8 (byte {error.start})", "save the file as UTF-8"
        ) from None
    except UnicodeEncodeError:
        raise DataError(f"{place}: a lone surrogate is no character") from None
    except RecursionError:
        raise DataError(f"{place}: nested too deeply") from None
    except ValueError as error:
        raise DataError(f"{place}: not JSON: {error}", hint) from None
    if not isinstance(row, dict):
        raise DataError(f"{place}: not an object", hint)
    return row


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) != len(pairs):
        raise ValueError("a key is there twice")
    return row


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _finite(digits: str) -> float:
    if isinf(number := float(digits)):
        raise ValueError(f"{digits} is too large a number")
    return number


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite
)
"""Made once: json.loads with hooks makes one for every line."""


def _check_encoding(source: BinaryIO, name: str) -> None:
    start = source.read(4)
    source.seek(0)
    for unpack, magic in (("zcat", b"\x1f\x8b"), ("zstdcat", b"\x28\xb5\x2f\xfd")):
        if start.startswith(magic):
            raise DataError(
                f"{name} is compressed", f"unpack it first: {unpack} FILE, and give - as the file"
            )
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{name} is UTF-16", "save it as UTF-8")
