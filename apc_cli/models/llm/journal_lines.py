"""The lines of a journal, each sealed with a checksum, and the file that holds them."""

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from apc_cli.errors import ApcError

FORMAT = 1
HEADER = {"format": FORMAT}
TEXT_AT = 65
"""Where a line's JSON begins: after 64 digits of its SHA-256 and a space."""

_PROBE_BYTES = 65_536


def open_file(path: Path) -> int:
    """An existing or new regular file that only its owner can read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        raise ApcError(f"the journal {path} is a symbolic link", "apc only writes to a plain file")
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    os.fchmod(descriptor, 0o600)
    return descriptor


def probe(path: Path) -> None:
    """Finds out that the disk is full before anything is paid for."""
    probe = path.with_name(f".{path.name}.probe-{os.getpid()}-{threading.get_ident()}")
    try:
        with probe.open("wb") as file:
            file.write(bytes(_PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    finally:
        probe.unlink(missing_ok=True)


def sync_directory(path: Path) -> None:
    """Makes the name of a new file durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def line_of(record: dict[str, Any]) -> bytes:
    """The record as a line, for `record_in` to read."""
    text = json.dumps(record, ensure_ascii=False).encode("utf-8", "replace")
    return hashlib.sha256(text).hexdigest().encode() + b" " + text + b"\n"


def lines_in(block: bytes) -> Iterator[bytes]:
    """Lines end with a newline only: other separators may stand inside a reply."""
    start = 0
    while start < len(block):
        end = block.index(b"\n", start) + 1
        yield block[start:end]
        start = end


def record_in(line: bytes) -> dict[str, Any] | None:
    """What a line holds; None unless its checksum is right."""
    checksum, text = line[: TEXT_AT - 1], line[TEXT_AT:-1]
    sound = line[TEXT_AT - 1 : TEXT_AT] == b" " and line.endswith(b"\n")
    if not sound or hashlib.sha256(text).hexdigest().encode() != checksum:
        return None
    return json.loads(text)
