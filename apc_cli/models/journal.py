"""Paid replies on disk: stored raw and durably before anybody looks at them."""

import hashlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from apc_cli.errors import ApcError, DataError, TryAgainLater

_FORMAT = 1
_BUSY_SECONDS = 30.0
_OPEN_TRIES = 20
_TABLE = """
CREATE TABLE IF NOT EXISTS replies (
    key TEXT PRIMARY KEY,
    request BLOB NOT NULL,
    reply BLOB NOT NULL,
    checksum BLOB NOT NULL
)
"""


class Journal:
    """Raw replies under the hash of their request; the first reply of a key is the one that counts.

    Threads and processes may share the file. A record whose checksum fails counts as missing, and
    the next reply for its key takes its place.
    """

    def __init__(self, path: Path) -> None:
        """Opens the journal, or makes an empty one that only its owner can read.

        Raises:
            ApcError: the file cannot be opened and written.
        """
        self._path = path
        self._lock = threading.Lock()
        with self._explained():
            _prepare_file(path)
            self._connection = sqlite3.connect(
                path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            try:
                self._set_up()
            except BaseException:
                self._connection.close()
                raise

    def get(self, key: str) -> str | None:
        """The stored reply, or None when there is none that can be trusted."""
        with self._lock, self._explained():
            return self._read(key)

    def put(self, key: str, request_json: str, raw_reply_text: str) -> str:
        """Stores the reply on disk and gives the one that counts: an earlier one if there is one.

        Raises:
            ApcError: it could not be stored.
        """
        request, reply = request_json.encode(), raw_reply_text.encode()
        record = (key, request, reply, _checksum(key, request, reply))
        with self._lock, self._explained(), self._transaction():
            earlier = self._read(key)
            if earlier is not None:
                return earlier
            self._connection.execute("REPLACE INTO replies VALUES (?, ?, ?, ?)", record)
        return raw_reply_text

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _set_up(self) -> None:
        """Creates the table, and writes once, so that a full disk shows before anything is paid."""
        _patiently(self._connection, "PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        with self._transaction():
            (found,) = self._connection.execute("PRAGMA user_version").fetchone()
            if found > _FORMAT:
                raise DataError(f"the journal {self._path} was written by a newer apc")
            self._connection.execute(_TABLE)
            self._connection.execute(f"PRAGMA user_version = {_FORMAT}")

    def _read(self, key: str) -> str | None:
        row = self._connection.execute(
            "SELECT request, reply, checksum FROM replies WHERE key = ?", (key,)
        ).fetchone()
        if row is None or not all(isinstance(value, bytes) for value in row):
            return None
        request, reply, checksum = row
        return reply.decode() if checksum == _checksum(key, request, reply) else None

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._unusable(error.strerror or str(error)) from error
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise TryAgainLater(f"the journal {self._path} is in use") from error
            if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise DataError(
                    f"the journal {self._path} is damaged: {error}",
                    "move it away to start a new one; its replies are then paid for again",
                ) from error
            raise self._unusable(str(error)) from error

    def _unusable(self, reason: str) -> ApcError:
        return ApcError(
            f"the journal {self._path} cannot be written: {reason}",
            "replies stored so far are safe; free space or mend the permissions, then run again",
        )


def _prepare_file(path: Path) -> None:
    """An existing or new regular file that only its owner can read.

    An existing file is never opened here: closing a second descriptor would drop the locks that
    SQLite holds on it in this process.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        raise ApcError(f"the journal {path} is a symbolic link", "apc only writes to a plain file")
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)


def _patiently(connection: sqlite3.Connection, statement: str) -> None:
    """Runs a statement that does not wait for locks by itself, as a change to WAL does not."""
    for attempt in range(_OPEN_TRIES):
        try:
            connection.execute(statement)
            return
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or attempt == _OPEN_TRIES - 1:
                raise
            time.sleep(0.05 * (attempt + 1))


def _checksum(key: str, request: bytes, reply: bytes) -> bytes:
    digest = hashlib.sha256()
    for part in (key.encode(), request, reply):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.digest()
