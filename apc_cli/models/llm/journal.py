"""Paid replies on disk: stored raw and durably before anybody looks at them.

One record a line, `SHA-256 JSON`, appended by one write and synced before it counts; nothing is
ever rewritten. What is damaged counts as missing, is copied to `<name>.bad`, and asked for again.
"""

import errno
import fcntl
import json
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from apc_cli.errors import ApcError, DataError
from apc_cli.models.llm.journal_lines import (
    FORMAT,
    HEADER,
    TEXT_AT,
    line_of,
    lines_in,
    open_file,
    probe,
    record_in,
    sync_directory,
)

_OURS = re.compile(rb"[0-9a-f]{0,64}(?: .*)?", re.DOTALL)


class _Place(NamedTuple):
    start: int
    length: int


class Journal:
    """Raw replies under the hash of their request; the first reply of a key is the one that counts.

    Threads and processes may share the file: a lock keeps their appends apart, and without it the
    worst that happens is a second payment.

    Attributes:
        damaged: how many records were found broken.
        servers: the servers whose replies are kept here.
    """

    def __init__(self, path: Path) -> None:
        """Opens the journal, or makes an empty one that only its owner can read.

        Raises:
            ApcError: the file cannot be opened and written.
            DataError: it is no journal, or one of a newer apc.
        """
        self._path = path
        self._lock, self._sync_lock = threading.Lock(), threading.Lock()
        self._synced_to = 0
        self._index: dict[str, _Place] = {}
        self._read_to = 0
        self._broken: ApcError | None = None
        self.damaged = 0
        self.servers: set[str] = set()
        with self._explained():
            self._file = open_file(path)
            try:
                probe(path)
                with self._alone():
                    self._recover()
            except BaseException:
                os.close(self._file)
                raise

    def __len__(self) -> int:
        return len(self._index)

    def get(self, key: str) -> str | None:
        """The stored reply, or None when there is none that can be trusted."""
        with self._lock, self._explained():
            if key not in self._index:
                self._read_new()
            return self._reply(key)

    def request(self, key: str) -> str | None:
        """The request that a stored reply answers."""
        with self._lock, self._explained():
            self._read_new()
            record = self._record_of(key)
            return None if record is None else record["request"]

    def names(self, prefix: str) -> list[str]:
        """The keys that start with a prefix, in the order of their records."""
        with self._lock, self._explained():
            self._read_new()
            return [key for key in self._index if key.startswith(prefix)]

    def put(self, key: str, request_json: str, raw_reply_text: str, server: str = "") -> str:
        """Stores the reply on disk and gives the one that counts: an earlier one if there is one.

        Raises:
            ApcError: it could not be stored; nothing can be from then on.
        """
        record = {"key": key, "server": server, "request": request_json, "reply": raw_reply_text}
        line = line_of(record)
        with self._explained():
            with self._lock, self._alone():
                self._read_new()
                earlier = self._reply(key)
                if earlier is None:
                    self._append(line)
                    self._read_new()
                end = self._read_to
            self._sync(end)
        if earlier is not None:
            return earlier
        return json.loads(line[TEXT_AT:])["reply"]

    def close(self) -> None:
        with self._lock:
            os.close(self._file)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _recover(self) -> None:
        """Reads everything; a torn last line is moved away, so that the next one starts cleanly."""
        if os.fstat(self._file).st_size == 0:
            self._append(line_of(HEADER))
            self._sync(os.fstat(self._file).st_size)
            sync_directory(self._path.parent)
        self._read_new()
        size = os.fstat(self._file).st_size
        tail = os.pread(self._file, size - self._read_to, self._read_to)
        foreign = not self._index and (self.damaged or not _OURS.fullmatch(tail))
        if foreign and not self._has_header():
            raise DataError(f"{self._path} is damaged or no journal of apc", "move it away")
        if tail:
            self._quarantine(tail)
            os.ftruncate(self._file, self._read_to)
            os.fsync(self._file)

    def _has_header(self) -> bool:
        return record_in(os.pread(self._file, len(line_of(HEADER)), 0)) == HEADER

    def _read_new(self) -> None:
        """Indexes the whole lines that this or another process has appended."""
        while True:
            size = os.fstat(self._file).st_size - self._read_to
            block = os.pread(self._file, min(size, 1 << 24), self._read_to) if size > 0 else b""
            end = block.rfind(b"\n") + 1
            if not end and len(block) < size:  # one line is larger than a block
                block = os.pread(self._file, size, self._read_to)
                end = block.rfind(b"\n") + 1
            if not end:
                return
            start = self._read_to
            for line in lines_in(block[:end]):
                self._note(line, start)
                start += len(line)
            self._read_to = start

    def _note(self, line: bytes, start: int) -> None:
        record = record_in(line)
        if record is None:
            if line.strip():
                self.damaged += 1
                self._quarantine(line)
            return
        if "format" in record:
            if record["format"] > FORMAT:
                raise DataError(f"the journal {self._path} was written by a newer apc")
            return
        self.servers.add(record["server"])
        self._index.setdefault(record["key"], _Place(start, len(line)))

    def _reply(self, key: str) -> str | None:
        record = self._record_of(key)
        return None if record is None else record["reply"]

    def _record_of(self, key: str) -> dict[str, Any] | None:
        place = self._index.get(key)
        if place is None:
            return None
        line = os.pread(self._file, place.length, place.start)
        record = record_in(line)
        if record is None or record.get("key") != key:  # it was sound when the journal was opened
            self.damaged += 1
            self._quarantine(line)
            del self._index[key]
            return None
        return record

    def _append(self, line: bytes) -> None:
        """One write; it counts when it is synced.

        A write that failed half-way, here or in a process that died, leaves a torn line: then a
        newline comes first, and the fragment is a damaged record of its own.
        """
        size = os.fstat(self._file).st_size
        if size and os.pread(self._file, 1, size - 1) != b"\n":
            line = b"\n" + line
        if self._broken:
            raise self._broken
        if os.write(self._file, line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _sync(self, end: int) -> None:
        """Makes everything up to `end` durable; threads that wait here share one sync.

        After a failed sync nothing more is stored.
        """
        with self._sync_lock:
            if self._broken:
                raise self._broken
            if self._synced_to >= end:
                return
            size = os.fstat(self._file).st_size
            try:
                os.fsync(self._file)
            except OSError as error:  # what a failed sync has lost, a second one does not find
                self._broken = self._unusable(error.strerror or str(error))
                raise
            self._synced_to = size

    def _quarantine(self, line: bytes) -> None:
        """Keeps a copy of what cannot be used, once."""
        path = self._path.with_name(self._path.name + ".bad")
        line = line.strip(b"\n") + b"\n"
        if path.is_file() and line in path.read_bytes():
            return
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
        descriptor = os.open(path, flags, 0o600)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._unusable(error.strerror or str(error)) from error

    def _unusable(self, reason: str) -> ApcError:
        return ApcError(
            f"the journal {self._path} cannot be written: {reason}",
            "replies stored so far are safe; free space or mend the permissions, then run again",
        )
