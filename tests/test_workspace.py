"""What is on disk is whole, belongs to one process at a time, and is known by its content."""

import hashlib
import json
import os
import subprocess
import sys
import time
import unicodedata
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

import pytest

from apc_cli.errors import ApcError, ConfigError, DataError, TryAgainLater
from apc_cli.models.llm.chat_outcomes import retry_after
from apc_cli.records import Query, Statement
from apc_cli.workspace import (
    ItemLog,
    Workspace,
    digest,
    directory_name,
    fingerprint,
    write_text,
)

ODD = "a\u2028b\u0085c\x0bd\re"


@pytest.fixture
def place(tmp_path):
    made = Workspace(tmp_path, "Mara")
    made.create()
    return made


def names(place):
    return sorted(path.name for path in place.directory.iterdir())


# Rows


def test_rows_come_back_as_they_went(place):
    rows = [
        Query(ODD, "é"),
        Query('"', "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16")),
    ]
    assert place.write_rows("q.jsonl", rows) == 2
    assert place.read_rows("q.jsonl", Query) == rows
    assert place.path("q.jsonl").read_bytes().count(b"\n") == 2
    assert names(place) == ["q.jsonl"]


@pytest.mark.parametrize(
    "line", [b"{", b"5", b'["a"]', b"null", b'{"text": "a"}', b'{"statement": "\xff"}']
)
def test_a_damaged_row_is_named(place, line):
    place.path("s.jsonl").write_bytes(b'{"statement": "a"}\n' + line + b"\n")
    with pytest.raises(DataError, match="s.jsonl line 2"):
        place.read_rows("s.jsonl", Statement)


def test_a_missing_artifact_is_named(place):
    with pytest.raises(DataError, match="s.jsonl does not exist"):
        place.read_rows("s.jsonl", Statement)


def test_a_failed_write_leaves_the_old_file(place):
    place.write_rows("s.jsonl", [Statement("old")])
    before = place.path("s.jsonl").read_bytes()

    def rows():
        yield Statement("new")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        place.write_rows("s.jsonl", rows())
    with pytest.raises(ValueError):
        place.write_json("s.jsonl", {"a": float("nan")})
    with pytest.raises(UnicodeEncodeError):
        write_text(place.path("s.jsonl"), "new \ud800")
    assert place.path("s.jsonl").read_bytes() == before


def test_a_symlink_is_replaced_and_its_target_left(place, tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("mine")
    place.path("s.jsonl").symlink_to(outside)
    place.write_rows("s.jsonl", [Statement("a")])
    assert outside.read_text() == "mine" and not place.path("s.jsonl").is_symlink()


def test_a_file_that_cannot_be_written_is_an_error_for_people(tmp_path):
    with pytest.raises(ApcError, match="cannot write .*: No such file"):
        write_text(tmp_path / "none" / "x", "")


def test_a_new_directory_appears_only_when_whole(place):
    with place.new_directory("adapter") as made:
        (made / "a").write_text("1")
    first = place.digest("adapter")
    with pytest.raises(RuntimeError):
        with place.new_directory("adapter") as made:
            (made / "a").write_text("2")
            raise RuntimeError
    assert place.digest("adapter") == first
    with place.new_directory("adapter") as made:
        assert not list(made.iterdir())
        (made / "b").write_text("3")
    assert [path.name for path in place.path("adapter").iterdir()] == ["b"]
    assert names(place) == ["adapter"]


WRITER = """
import itertools, sys
from pathlib import Path
from apc_cli.records import Statement
from apc_cli.workspace import Workspace
place = Workspace(Path(sys.argv[1]), "Mara")
for number in itertools.count():
    place.write_rows("s.jsonl", [Statement(f"{number}")] * 500)
    with place.new_directory("adapter") as made:
        for name in range(20):
            (made / f"{name}").write_text("x")
    place.record("a", {"numbers": [number] * 500})
"""


def test_readers_see_the_old_or_the_new_while_another_process_replaces(place, tmp_path):
    seen, until = set(), time.monotonic() + 60
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)])
    try:
        while not place.manifest() and time.monotonic() < until:
            time.sleep(0.01)
        for _ in range(1000):
            [number] = set(place.manifest()["a"]["numbers"])
            seen.add(number)
            rows = place.read_rows("s.jsonl", Statement)
            assert len(rows) == 500 and len({row.statement for row in rows}) == 1
            adapter = place.path("adapter")
            with suppress(FileNotFoundError):  # between two renames
                one, files = adapter.stat().st_ino, os.listdir(adapter)
                assert len(files) == 20 or adapter.stat().st_ino != one
        assert writer.poll() is None
    finally:
        writer.kill()
        writer.wait()
    assert len(seen) > 5


# Lock


@pytest.mark.parametrize("jump", [-86_400, 86_400])
def test_a_clock_that_jumps_takes_no_lock_away(place, tmp_path, monkeypatch, jump):
    now = time.time
    with place.lock():
        monkeypatch.setattr(time, "time", lambda: now() + jump)
        for name in (".lock", ".lock.holder"):
            os.utime(place.path(name), (now() - jump, now() - jump))
        with pytest.raises(TryAgainLater, match="in use by process"):
            with Workspace(tmp_path, "Mara").lock():
                pass
    with place.lock():
        pass


@pytest.mark.parametrize("jump", [-86_400, 86_400])
def test_no_pause_is_negative_after_the_clock_jumped(monkeypatch, jump):
    now = time.time
    date = format_datetime(datetime.fromtimestamp(now() + 5, UTC), usegmt=True)
    monkeypatch.setattr(time, "time", lambda: now() + jump)
    pause = retry_after({"retry-after": date})
    assert pause == 0 if jump > 0 else pause > 0


def test_a_second_lock_is_refused_with_the_holder(place, tmp_path):
    with place.lock():
        with pytest.raises(TryAgainLater, match=f"in use by process {os.getpid()} on "):
            with Workspace(tmp_path, "Mara").lock():
                pass
        with Workspace(tmp_path, "Other").lock():
            pass
    with place.lock():
        pass
    assert ".lock.holder" not in names(place)


def test_a_killed_process_leaves_no_lock(place, tmp_path):
    code = (
        "import os, pathlib\nfrom apc_cli.workspace import Workspace\n"
        f"with Workspace(pathlib.Path({str(tmp_path)!r}), 'Mara').lock(): os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 9
    assert ".lock.holder" in names(place)
    with place.lock():
        assert f"process {os.getpid()} " in place.path(".lock.holder").read_text()


def test_an_unwritable_workspace_is_found_before_work(tmp_path):
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "file", Path("/proc/none")):
        with pytest.raises(ApcError, match="cannot write to the workspace") as caught:
            Workspace(root, "Mara").create()
        assert "--workspace" in caught.value.hint and caught.value.exit_code == 1


# Manifest


def test_a_manifest_of_a_newer_format_is_refused_and_left(place):
    place.record("a", {"kept": 1})
    path = place.path("manifest.json")
    assert json.loads(path.read_text()) == {"format": 1, "a": {"kept": 1}}
    text = path.read_text().replace('"format": 1', '"format": 2')
    path.write_text(text)
    for use in (place.manifest, lambda: place.record("b", {}), lambda: place.forget("a")):
        with pytest.raises(DataError, match="has format 2: .* knows formats up to 1") as caught:
            use()
        assert "delete" not in caught.value.hint
    assert path.read_text() == text
    path.write_text('{"a": {"kept": 1}}')  # before there was a number
    assert place.manifest() == {"a": {"kept": 1}}


def test_record_and_forget(place):
    place.record("a", {"kept": 1, "name": "é"})
    place.record("b", {"kept": 2})
    place.record("a", {"kept": 3, "name": "é"})
    assert place.manifest() == {"a": {"kept": 3, "name": "é"}, "b": {"kept": 2}}
    place.forget("b")
    place.forget("none")
    assert Workspace(place.directory.parent, "Mara").manifest() == {"a": {"kept": 3, "name": "é"}}


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"5", b"[1]", b'{"a": 1}', b"\xff", b"null"])
def test_a_damaged_manifest_says_so(place, text):
    place.path("manifest.json").write_bytes(text)
    with pytest.raises(DataError, match="manifest.json is damaged") as caught:
        place.manifest()
    assert "delete it" in caught.value.hint


# Item log


def test_an_item_log_goes_on_where_it_was(tmp_path):
    path = tmp_path / "log.jsonl"
    log = ItemLog(path, "f1")
    log.add(ODD, {"text": ODD, "n": [1, 2.5]})
    log.add("é", None)
    again = ItemLog(path, "f1")
    assert again.items == {ODD: {"text": ODD, "n": [1, 2.5]}, "é": None}
    again.add("third", 3)
    assert list(ItemLog(path, "f1").items) == [ODD, "é", "third"]
    again.close()
    assert not path.exists()


def test_every_torn_tail_loses_only_the_last_item(tmp_path):
    path = tmp_path / "log.jsonl"
    log = ItemLog(path, "f1")
    log.add("one", ODD)
    kept = len(path.read_bytes())
    log.add("twö", "schön")
    whole = path.read_bytes()
    for cut in range(kept, len(whole)):
        path.write_bytes(whole[:cut])
        torn = ItemLog(path, "f1")
        assert torn.items == {"one": ODD}
        torn.add("two", 2)
        assert ItemLog(path, "f1").items == {"one": ODD, "two": 2}


@pytest.mark.parametrize("tail", [b"\0\0\0\n", b"5\n", b'{"key": "x"}\n', b"\xff\n", b'"\n'])
def test_a_damaged_line_ends_the_log(tmp_path, tail):
    path = tmp_path / "log.jsonl"
    ItemLog(path, "f1").add("one", 1)
    path.write_bytes(path.read_bytes() + tail + b'{"key": "later", "value": 1}\n')
    assert ItemLog(path, "f1").items == {"one": 1}


@pytest.mark.parametrize("content", [None, b"", b"{", b"\xff\xfe"])
def test_another_fingerprint_starts_afresh(tmp_path, content):
    path = tmp_path / "log.jsonl"
    ItemLog(path, "f1").add("one", 1)
    if content is not None:
        path.write_bytes(content)
    assert ItemLog(path, "f2").items == {}
    assert ItemLog(path, "f1").items == {}


# Names and digests


@pytest.mark.parametrize(
    "name", ["Mara", "Komeiji Koishi", "爱丽丝", "O'Neil", "J.-P. Sartre", "Zoë"]
)
def test_plain_names_are_directories_of_that_name(name):
    assert directory_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["../../x", "/etc/x", "..", ".", "a/b", "-rf", "~", "a\nb", "x" * 300, "😀", "a\u202eb", "a.",
     ".hidden", "a\\b", "é" * 40, "a:b", "a*"],
)  # fmt: skip
def test_odd_names_stay_inside_the_workspace(tmp_path, name):
    made = directory_name(name)
    assert len(made.encode()) <= 60 and not made.startswith((".", "-", "~"))
    assert not set(made) & set("/\\\0\n\u202e:*") and made == directory_name(name)
    place = Workspace(tmp_path, name)
    place.create()
    assert place.directory.parent == tmp_path and [p.name for p in tmp_path.iterdir()] == [made]


@pytest.mark.parametrize("name", ["", "  ", "a\0b", "a\ud800"])
def test_names_that_are_no_text_are_refused(name):
    with pytest.raises(ConfigError):
        directory_name(name)


def test_distinct_names_do_not_meet():
    odd = ["a/b", "a\\b", "a:b", "a b", "a-b", "x" * 61, "x" * 62, "😀", "😁", "alice", "Alice"]
    assert len({directory_name(name) for name in odd}) == len(odd)
    assert directory_name(unicodedata.normalize("NFD", "Zoé")) == directory_name("Zoé")


def test_digests_follow_content_and_names(tmp_path):
    file = tmp_path / "f"
    file.write_bytes(b"abc")
    assert digest(file) == hashlib.sha256(b"abc").hexdigest()
    assert digest(tmp_path / "none") is None
    seen = set()
    for name, text in (("a", "1"), ("a", "2"), ("b", "2"), ("sub/a", "2")):
        folder = tmp_path / f"d{len(seen)}"
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text(text)
        seen.add(digest(folder))
    assert len(seen) == 4 and None not in seen
    os.utime(folder / name, (0, 0))
    assert digest(folder) in seen


def test_fingerprints_ignore_the_order_of_keys():
    assert fingerprint({"a": 1, "b": [1, 2]}) == fingerprint({"b": [1, 2], "a": 1})
    assert fingerprint({"a": [1, 2]}) != fingerprint({"a": [2, 1]})
    text = json.dumps({"a": "é"}, ensure_ascii=False)
    assert fingerprint({"a": "é"}) == hashlib.sha256(text.encode()).hexdigest()


# Other characters


def finished(root, name, language="en"):
    other = Workspace(root, name)
    other.create()
    other.write_rows("q.jsonl", [Query("a", "b")])
    outputs = {"q.jsonl": other.digest("q.jsonl")}
    config = {"character": name, "language": language}
    other.record("queries", {"config": config, "outputs": outputs})
    return other


def test_others_are_finished_intact_and_of_the_same_language(tmp_path):
    mara = finished(tmp_path, "Mara")
    long = finished(tmp_path, "A name " + "that goes on and on " * 5)
    finished(tmp_path, "京", language="ja")
    finished(tmp_path, "Edited").path("q.jsonl").write_text("{}\n")
    Workspace(tmp_path, "Empty").create()
    assert [other.character for other in mara.others("queries")] == [long.character]
    assert mara.others("queries")[0].read_rows("q.jsonl", Query) == [Query("a", "b")]
    assert mara.others("dpo") == []
