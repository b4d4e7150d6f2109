import json
import os
import random
import signal
import subprocess
import sys
import threading

import pytest

from apc_cli.errors import ApcError, DataError
from apc_cli.models.llm.journal import Journal
from apc_cli.models.llm.journal_lines import line_of

WRITER = """
import sys
from pathlib import Path
from apc_cli.models.llm.journal import Journal
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
    assert modes == {"j": 0o600}


def test_an_existing_journal_is_made_private(tmp_path):
    Journal(tmp_path / "j").close()
    (tmp_path / "j").chmod(0o644)
    Journal(tmp_path / "j").close()
    assert (tmp_path / "j").stat().st_mode & 0o777 == 0o600


def filled(path, count=4):
    """A journal with `count` records; returns its bytes and where each record starts."""
    with Journal(path) as journal:
        starts = []
        for number in range(count):
            starts.append(path.stat().st_size)
            journal.put(f"k{number}", json.dumps({"q": number}), f"reply {number} 漢字")
    return path.read_bytes(), starts


def found(path, count=4):
    with Journal(path) as journal:
        return [journal.get(f"k{number}") for number in range(count)]


def test_a_cut_at_any_byte_loses_only_what_lies_behind_it(tmp_path):
    path = tmp_path / "j"
    whole, starts = filled(path)
    ends = [*starts[1:], len(whole)]
    for cut in range(starts[1], len(whole)):
        path.write_bytes(whole[:cut])
        expected = [f"reply {n} 漢字" if ends[n] <= cut else None for n in range(4)]
        assert found(path) == expected
        with Journal(path) as journal:
            journal.put("new", "{}", "after the cut")
        with Journal(path) as journal:
            assert journal.get("new") == "after the cut"
        assert found(path) == expected


def test_a_flipped_bit_is_always_noticed_and_costs_two_records_at_most(tmp_path):
    path = tmp_path / "j"
    whole, _ = filled(path, 20)
    draw = random.Random(7)
    for _ in range(200):
        offset, bit = draw.randrange(len(whole)), draw.randrange(8)
        changed = bytearray(whole)
        changed[offset] ^= 1 << bit
        path.write_bytes(changed)
        (tmp_path / "j.bad").unlink(missing_ok=True)
        replies = found(path, 20)
        assert replies.count(None) <= 2
        assert all(r in (None, f"reply {n} 漢字") for n, r in enumerate(replies))
        if replies.count(None):
            assert (tmp_path / "j.bad").stat().st_size > 0


def test_a_damaged_record_is_asked_again_and_kept_aside_once(tmp_path):
    path = tmp_path / "j"
    whole, starts = filled(path)
    path.write_bytes(whole.replace(b"reply 1", b"reply 7"))
    for _ in range(2):
        with Journal(path) as journal:
            assert journal.get("k1") is None and journal.get("k2") == "reply 2 漢字"
            assert journal.damaged == 1
    kept = (tmp_path / "j.bad").read_bytes()
    assert kept.count(b"\n") == 1 and b"reply 7" in kept
    with Journal(path) as journal:
        assert journal.put("k1", "{}", "again") == "again"
    assert found(path)[1] == "again"
    assert path.read_bytes().startswith(whole[: starts[1]])


def test_a_record_that_rots_while_it_is_open_is_not_used(tmp_path):
    path = tmp_path / "j"
    whole, starts = filled(path)
    with Journal(path) as journal:
        with path.open("r+b") as file:
            file.seek(starts[2] + 80)
            file.write(b"!")
        assert journal.get("k2") is None
        assert journal.get("k1") == "reply 1 漢字"


def test_another_process_that_died_within_a_line_spoils_nothing(tmp_path):
    path = tmp_path / "j"
    filled(path)
    with Journal(path) as journal:
        with path.open("ab") as file:
            file.write(b"0123abcd")
        journal.put("next", "{}", "whole")
        assert journal.get("next") == "whole"
    with Journal(path) as journal:
        assert journal.get("next") == "whole" and journal.damaged == 1


def test_a_record_moved_to_another_key_is_not_used(tmp_path):
    path = tmp_path / "j"
    whole, _ = filled(path)
    path.write_bytes(whole.replace(b'"key": "k2"', b'"key": "k9"'))
    with Journal(path) as journal:
        assert journal.get("k9") is journal.get("k2") is None


def test_a_reply_is_synced_before_it_counts(tmp_path, monkeypatch):
    calls = []
    with Journal(tmp_path / "j") as journal:
        real_write, real_sync = os.write, os.fsync
        monkeypatch.setattr(os, "write", lambda *a: calls.append("write") or real_write(*a))
        monkeypatch.setattr(os, "fsync", lambda *a: calls.append("sync") or real_sync(*a))
        journal.put("k", "{}", "reply")
    assert calls == ["write", "sync"]


def test_after_a_failed_sync_nothing_more_is_stored(tmp_path, monkeypatch):
    def failing(_):
        raise OSError(5, "Input/output error")

    with Journal(tmp_path / "j") as journal:
        monkeypatch.setattr(os, "fsync", failing)
        with pytest.raises(ApcError, match="Input/output error"):
            journal.put("k", "{}", "reply")
        monkeypatch.undo()
        with pytest.raises(ApcError, match="Input/output error"):
            journal.put("other", "{}", "reply")


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


def test_a_write_that_the_system_refuses_is_explained_and_loses_nothing(tmp_path):
    script = """
import resource, sys
from pathlib import Path
from apc_cli.errors import ApcError
from apc_cli.models.llm.journal import Journal
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
    (tmp_path / "j").write_bytes(line_of({"format": 99}))
    with pytest.raises(DataError, match="newer apc"):
        Journal(tmp_path / "j")


def test_a_full_disk_shows_before_anything_is_paid_for(tmp_path):
    script = """
import resource, sys
from pathlib import Path
from apc_cli.errors import ApcError
from apc_cli.models.llm.journal import Journal
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
try:
    Journal(Path(sys.argv[1]))
except ApcError as error:
    sys.exit(str(error))
"""
    command = [sys.executable, "-c", script, str(tmp_path / "j")]
    outcome = subprocess.run(command, capture_output=True, text=True)
    assert outcome.returncode == 1 and "cannot be written" in outcome.stderr
    assert [path.name for path in tmp_path.iterdir()] in ([], ["j"])
