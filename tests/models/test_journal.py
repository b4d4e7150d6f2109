import os
import signal
import sqlite3
import subprocess
import sys
import threading

import pytest

from apc_cli.errors import ApcError, DataError, TryAgainLater
from apc_cli.models import journal as journal_module
from apc_cli.models.journal import Journal

WRITER = """
import sys
from pathlib import Path
from apc_cli.models.journal import Journal
journal = Journal(Path(sys.argv[1]))
for number in range(int(sys.argv[3])):
    journal.put(f"key{number}", "{}", f"{sys.argv[2]} {number}")
    print(number, flush=True)
"""


def start_writer(path, name, count):
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), name, str(count)],
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_reply_comes_back_as_it_was_stored(tmp_path):
    text = '{"a": "ä\u2028\\ud83d 漢字"}\n'
    with Journal(tmp_path / "new" / "replies.db") as journal:
        assert journal.get("k") is None
        assert journal.put("k", "{}", text) == text
    with Journal(tmp_path / "new" / "replies.db") as journal:
        assert journal.get("k") == text


def test_the_first_reply_of_a_key_wins(tmp_path):
    with Journal(tmp_path / "j") as journal, Journal(tmp_path / "j") as other:
        journal.put("k", "{}", "first")
        assert other.put("k", "{}", "second") == "first"
        assert journal.get("k") == "first"


def test_only_the_owner_can_read_it(tmp_path):
    old = os.umask(0)
    try:
        with Journal(tmp_path / "j") as journal:
            journal.put("k", "{}", "reply")
            modes = {p.name: p.stat().st_mode & 0o777 for p in tmp_path.iterdir()}
    finally:
        os.umask(old)
    assert modes == {"j": 0o600, "j-wal": 0o600, "j-shm": 0o600}


def test_an_existing_journal_is_made_private(tmp_path):
    Journal(tmp_path / "j").close()
    (tmp_path / "j").chmod(0o644)
    Journal(tmp_path / "j").close()
    assert (tmp_path / "j").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("column", ["request", "reply", "checksum"])
def test_a_damaged_record_counts_as_missing_and_is_replaced(tmp_path, column):
    with Journal(tmp_path / "j") as journal:
        journal.put("k", '{"q": 1}', "reply")
        journal.put("other", "{}", "sound")
    with sqlite3.connect(tmp_path / "j") as connection:
        connection.execute(f"UPDATE replies SET {column} = x'ff00' WHERE key = 'k'")
    with Journal(tmp_path / "j") as journal:
        assert journal.get("k") is None
        assert journal.get("other") == "sound"
        assert journal.put("k", '{"q": 1}', "again") == "again"
        assert journal.get("k") == "again"


def test_a_record_that_moved_to_another_key_is_not_used(tmp_path):
    with Journal(tmp_path / "j") as journal:
        journal.put("k", "{}", "reply")
    with sqlite3.connect(tmp_path / "j") as connection:
        connection.execute("UPDATE replies SET key = 'other'")
    with Journal(tmp_path / "j") as journal:
        assert journal.get("other") is None


def test_every_commit_is_synced(tmp_path):
    with Journal(tmp_path / "j") as journal:
        assert journal._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert journal._connection.execute("PRAGMA synchronous").fetchone() == (2,)


def test_two_processes_and_threads_write_together(tmp_path):
    writers = [start_writer(tmp_path / "j", name, 40) for name in ("a", "b")]
    with Journal(tmp_path / "j") as journal:

        def put_all(name):
            for number in range(40):
                journal.put(f"key{number}", "{}", f"{name} {number}")

        threads = [threading.Thread(target=put_all, args=(name,)) for name in "cd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for writer in writers:
            writer.communicate()
            assert writer.returncode == 0
        found = [journal.get(f"key{number}") for number in range(40)]
    assert all(reply.split()[1] == str(number) for number, reply in enumerate(found))


def test_what_was_stored_survives_a_kill(tmp_path):
    writer = start_writer(tmp_path / "j", "a", 100_000)
    lines = [writer.stdout.readline() for _ in range(20)]
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    with Journal(tmp_path / "j") as journal:
        for line in lines:
            number = int(line)
            assert journal.get(f"key{number}") == f"a {number}"


def test_a_full_disk_is_explained_and_loses_nothing(tmp_path):
    with Journal(tmp_path / "j") as journal:
        journal.put("k", "{}", "reply")
        pages = journal._connection.execute("PRAGMA page_count").fetchone()[0]
        journal._connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(ApcError, match=r"journal .*/j cannot be written: .*full"):
            journal.put("big", "{}", "x" * 100_000)
        assert journal.get("big") is None
        assert journal.get("k") == "reply"


def test_a_write_that_the_system_refuses_is_explained_and_loses_nothing(tmp_path):
    script = """
import resource, sys
from pathlib import Path
from apc_cli.errors import ApcError
from apc_cli.models.journal import Journal
journal = Journal(Path(sys.argv[1]))
journal.put("k", "{}", "reply")
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, resource.RLIM_INFINITY))
for number in range(99):
    try:
        journal.put(f"big{number}", "{}", "x" * 10_000)
    except ApcError as error:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        journal.put(f"big{number}", "{}", "x" * 10_000)
        sys.exit(str(error))
"""
    command = [sys.executable, "-c", script, str(tmp_path / "j")]
    outcome = subprocess.run(command, capture_output=True, text=True)
    assert outcome.returncode == 1
    assert outcome.stderr.startswith(f"the journal {tmp_path}/j cannot be written: ")
    with Journal(tmp_path / "j") as journal:
        assert journal.get("k") == "reply"
        assert journal.get("big0") == "x" * 10_000


def test_a_place_that_cannot_be_written_is_explained(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ApcError, match="cannot be written"):
        Journal(tmp_path / "file" / "j")
    with pytest.raises(ApcError, match="cannot be written"):
        Journal(tmp_path)


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "target").write_text("precious")
    (tmp_path / "j").symlink_to(tmp_path / "target")
    with pytest.raises(ApcError, match="symbolic link"):
        Journal(tmp_path / "j")
    assert (tmp_path / "target").read_text() == "precious"


def test_a_file_of_another_kind_is_left_alone(tmp_path):
    (tmp_path / "j").write_text("no database " * 1000)
    with pytest.raises(DataError, match="damaged"):
        Journal(tmp_path / "j")
    assert (tmp_path / "j").read_text().startswith("no database")


def test_a_newer_format_is_refused(tmp_path):
    with sqlite3.connect(tmp_path / "j") as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(DataError, match="newer apc"):
        Journal(tmp_path / "j")


def test_a_journal_in_use_for_too_long_is_a_matter_of_trying_later(tmp_path, monkeypatch):
    monkeypatch.setattr(journal_module, "_BUSY_SECONDS", 0.1)
    with Journal(tmp_path / "j") as journal, Journal(tmp_path / "j") as other:
        other._connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(TryAgainLater, match="in use"):
            journal.put("k", "{}", "reply")
