"""Relevance on disk, by content: what a classifier said of a text it need not be asked again.

One SQLite file a checkpoint and number format. A run reads what was there when it began and nothing
newer, so that its scores do not depend on how far it, or another process beside it, has come.
"""

import hashlib
import logging
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from apc_cli.models.references import cache_dir

_LARGEST = 5_000_000
"""Entries kept, about 60 bytes each; the oldest go first."""

_CHUNK = 500


_log = logging.getLogger(__name__)


class RelevanceCache:
    """P(relevant) of texts, for one checkpoint; safe for several processes and threads.

    A cache that cannot be used (a full or read-only disk, a damaged file) is told of once and then
    holds nothing: it saves work, and no work depends on it.
    """

    def __init__(self, fingerprint: str, before: float | None = None) -> None:
        """Entries made at `before` (seconds since 1970; None is now) or later are not read."""
        name = hashlib.sha256(fingerprint.encode()).hexdigest()[:24]
        path = cache_dir() / "relevance" / f"{name}.sqlite"
        self._lock, self._path = threading.Lock(), path
        self._before = time.time() if before is None else before
        self._db: sqlite3.Connection | None = None
        try:
            self._db = _opened(path)
        except (sqlite3.Error, OSError) as error:
            self._give_up(error)

    def find(self, texts: Sequence[str]) -> dict[str, float]:
        """The texts that are known, with their relevance."""
        keys = {_key(text): text for text in texts}
        found: dict[str, float] = {}
        with self._lock:
            if self._db is None:
                return {}
            try:
                for chunk in _chunks(list(keys)):
                    marks = ",".join("?" * len(chunk))
                    rows = self._db.execute(
                        f"SELECT text, yes FROM relevance WHERE text IN ({marks}) AND made < ?",
                        (*chunk, self._before),
                    )
                    found |= {keys[key]: yes for key, yes in rows}
            except sqlite3.Error as error:
                self._give_up(error)
        return found

    def add(self, texts: Sequence[str], relevance: Sequence[float]) -> None:
        """Keeps what was computed; the first value of a text stays."""
        now = time.time()
        rows = [(_key(text), yes, now) for text, yes in zip(texts, relevance, strict=True)]
        with self._lock:
            if self._db is None:
                return
            try:
                self._db.execute("BEGIN IMMEDIATE")
                self._db.executemany(
                    "INSERT OR IGNORE INTO relevance (text, yes, made) VALUES (?, ?, ?)", rows
                )
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        _log.warning("no relevance is kept in %s: %s", self._path, error)
        self._db = None


def _opened(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(path, timeout=60, check_same_thread=False, isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=NORMAL")
    db.execute(
        "CREATE TABLE IF NOT EXISTS relevance "
        "(number INTEGER PRIMARY KEY, text BLOB UNIQUE, yes REAL, made REAL)"
    )
    [(last,)] = db.execute("SELECT coalesce(max(number), 0) FROM relevance")
    db.execute("DELETE FROM relevance WHERE number <= ?", (last - _LARGEST,))
    return db


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _chunks(keys: list[bytes]) -> Iterator[list[bytes]]:
    rest = iter(keys)
    while chunk := list(islice(rest, _CHUNK)):
        yield chunk
