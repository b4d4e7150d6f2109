"""A character's artifacts on disk: atomic files, a manifest written last, one lock.

An artifact without its manifest entry does not exist for the pipeline, so a process killed at any
point leaves either the old artifact or the new one, never half of one.
"""

import hashlib
import json
import os
import re
import shutil
import socket
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from apc_cli.errors import ApcError, ConfigError, DataError, TryAgainLater

MANIFEST = "manifest.json"
FORMAT = 1
"""What a manifest looks like; it stands in the file beside the stages. To be raised when older
versions would misread it."""
FAILURES = "failures.jsonl"
Record = TypeVar("Record")


class Workspace:
    """The directory `<root>/<character>/`."""

    def __init__(self, root: Path, character: str) -> None:
        self.root, self.character = root, character
        self.directory = root / directory_name(character)

    def path(self, name: str) -> Path:
        """Where the artifact of that name is kept."""
        return self.directory / name

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keeps other processes out; the lock dies with its process.

        Raises:
            TryAgainLater: another process works on this character.
        """
        self.create()
        lock, holder = FileLock(self.path(".lock")), self.path(".lock.holder")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            known = holder.is_file()
            who = holder.read_text("utf-8", errors="replace") if known else "another process"
            raise TryAgainLater(
                f"{self.directory} is in use by {who}", "wait until it ends, then run this again"
            ) from None
        try:
            command = " ".join(["apc", *sys.argv[1:]])
            who = f"process {os.getpid()} on {socket.gethostname()}: {command}"
            holder.write_text(who, encoding="utf-8", errors="replace")
            yield
        finally:
            holder.unlink(missing_ok=True)
            lock.release()

    def create(self) -> None:
        """Makes the directory, and finds out now whether it can be written."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            probe = self.path(f".probe-{os.getpid()}")
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise ApcError(
                f"cannot write to the workspace {self.directory}: {error.strerror}",
                "choose another with --workspace DIR or APC_WORKSPACE",
            ) from None

    def manifest(self) -> dict[str, Any]:
        """What is known of each finished stage.

        Raises:
            DataError: it is damaged, or has the format of a newer apc.
        """
        path = self.path(MANIFEST)
        if not path.is_file():
            return {}
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            found = None
        written = found.pop("format", FORMAT) if isinstance(found, dict) else None
        if isinstance(written, int) and written > FORMAT:
            raise DataError(
                f"{path} has format {written}: this version of apc knows formats up to {FORMAT}",
                "install the version that wrote it or a newer one, or give another --workspace",
            )
        if written != FORMAT or not all(isinstance(entry, dict) for entry in found.values()):
            raise DataError(
                f"{path} is damaged", "delete it: the stages will be built again from their inputs"
            )
        return found

    def record(self, stage: str, entry: dict[str, Any]) -> None:
        """Marks a stage as done."""
        self._write_manifest(self.manifest() | {stage: entry})

    def forget(self, stage: str) -> None:
        """Marks a stage as not done, before its artifacts are replaced."""
        manifest = self.manifest()
        if manifest.pop(stage, None) is not None:
            self._write_manifest(manifest)

    def _write_manifest(self, stages: dict[str, Any]) -> None:
        self.write_json(MANIFEST, {"format": FORMAT} | stages)

    def write_rows(self, name: str, records: Iterable[Any]) -> int:
        """Replaces a JSONL artifact by the records; returns how many there are."""
        lines = [json.dumps(_plain(r), ensure_ascii=False, allow_nan=False) for r in records]
        write_text(self.path(name), "".join(f"{line}\n" for line in lines))
        return len(lines)

    def read_rows(self, name: str, record: type[Record]) -> list[Record]:
        """The records of a JSONL artifact that `write_rows` wrote."""
        path = self.path(name)
        found = []
        try:
            lines = path.read_bytes().split(b"\n")
        except OSError:
            raise DataError(f"{path} does not exist", "run the stage that writes it") from None
        for number, line in enumerate(lines, start=1):
            if line:
                try:
                    found.append(record(**_tuples(json.loads(line.decode("utf-8")))))
                except (ValueError, TypeError, AttributeError) as error:
                    raise DataError(f"{path} line {number}: {error}") from None
        return found

    def write_json(self, name: str, value: Any) -> None:
        """Replaces a JSON artifact."""
        text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
        write_text(self.path(name), text + "\n")

    @contextmanager
    def new_directory(self, name: str) -> Iterator[Path]:
        """A fresh directory that takes the artifact's place when the block ends well."""
        partial = self.path(f"{name}.tmp")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        for file in partial.rglob("*"):
            if file.is_file():
                _sync(file)
        target, old = self.path(name), self.path(f"{name}.old")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(old, ignore_errors=True)
        if target.is_dir():
            target.rename(old)  # emptied where it is, it would be seen half
        partial.rename(target)
        shutil.rmtree(old, ignore_errors=True)

    def others(self, stage: str) -> list["Workspace"]:
        """Other characters of the same language whose results of the stage are as it wrote them."""
        found = []
        language = self._settings(stage).get("language")
        for folder in sorted(path.parent for path in self.root.glob(f"*/{MANIFEST}")):
            other = Workspace(self.root, folder.name)
            settings = other._settings(stage)
            mine = other.directory == self.directory
            if not mine and settings.get("language") == language and other._intact(stage):
                other.character = settings["character"]
                found.append(other)
        return found

    def _settings(self, stage: str) -> dict[str, Any]:
        return self.manifest().get(stage, {}).get("config", {})

    def _intact(self, stage: str) -> bool:
        outputs = self.manifest().get(stage, {}).get("outputs", {})
        return bool(outputs) and all(self.digest(name) == known for name, known in outputs.items())

    def digest(self, name: str) -> str | None:
        """SHA-256 of an artifact's content, file or directory; None when it is not there."""
        return digest(self.path(name))


class ItemLog:
    """Finished items of a long stage, appended one by one, so that a killed run goes on from there.

    The log belongs to one fingerprint; another one starts it afresh.
    """

    def __init__(self, path: Path, fingerprint: str) -> None:
        self.path = path
        self.items: dict[str, Any] = {}
        header = json.dumps({"fingerprint": fingerprint})
        first, *lines = path.read_bytes().split(b"\n") if path.exists() else [b""]
        good = [header]
        if first == header.encode():
            for line in lines[:-1]:
                try:
                    entry = json.loads(line.decode("utf-8"))
                    self.items[entry["key"]] = entry["value"]
                except (ValueError, TypeError, KeyError):
                    break
                good.append(line.decode("utf-8"))
        write_text(path, "\n".join(good) + "\n")

    def add(self, key: str, value: Any) -> None:
        """Keeps an item; it is on disk when this returns."""
        self.items[key] = value
        line = json.dumps({"key": key, "value": value}, ensure_ascii=False)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())

    def close(self) -> None:
        """The stage is done: its artifact holds everything."""
        self.path.unlink(missing_ok=True)


def directory_name(character: str) -> str:
    """A safe directory name: the character's own where possible, else a slug with a hash.

    Raises:
        ConfigError: the name cannot be written as text at all.
    """
    name = unicodedata.normalize("NFC", character)
    if not name.strip() or "\0" in name or any("\ud800" <= c <= "\udfff" for c in name):
        raise ConfigError(f"{character!a} cannot be a character's name")
    plain = re.fullmatch(r"\w[\w '.-]*", name) and not name.endswith((".", " "))
    if plain and len(name.encode()) <= 60:
        return name
    slug = re.sub(r"\W+", "-", name).strip("-").encode()[:40].decode(errors="ignore")
    return f"{slug or 'character'}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def digest(path: Path) -> str | None:
    """SHA-256 of a file, or of all files below a directory with their names."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    if not path.is_dir():
        return None
    total = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        total.update(f"{file.relative_to(path)}\0{digest(file)}\n".encode())
    return total.hexdigest()


def fingerprint(value: Any) -> str:
    """SHA-256 of a JSON value, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def write_text(path: Path, text: str) -> None:
    """Replaces a file in one step: a reader sees the old text or the new one."""
    partial = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise ApcError(f"cannot write {path}: {error.strerror}", "free some space") from error
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _plain(record: Any) -> Any:
    return asdict(record) if is_dataclass(record) and not isinstance(record, type) else record


def _tuples(row: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in row.items()}
