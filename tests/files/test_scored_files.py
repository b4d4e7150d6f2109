"""Outputs are whole or not there, in the format of their names, and go on after a kill."""

import csv
import gzip
import json

import pytest
from backports import zstd
from pyarrow import parquet

from apc_cli.errors import ConfigError, TryAgainLater
from apc_cli.files.scored_files import Partial, as_lines, check_format, sink

ROWS = [
    {"id": 1, "query": "é", "n": 1, "mixed": 1, "apc": {"score": 1.5, "interval": [1, 2]}},
    {"id": 2, "query": "q", "tags": ["a"], "mixed": "x", "empty": {}, "error": "why"},
]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)


def write(path, rows=ROWS):
    with sink(str(path), lambda: "run") as target:
        target.write(rows[:1], {})
        target.write(rows[1:], {})


@pytest.mark.parametrize(
    ("name", "unpack"),
    [
        ("out.jsonl", bytes),
        ("out", bytes),
        ("out.jsonl.gz", gzip.decompress),
        ("out.zst", zstd.decompress),
    ],
)
def test_json_lines_plain_and_packed(tmp_path, name, unpack):
    write(tmp_path / name)
    assert unpack((tmp_path / name).read_bytes()).decode() == LINES
    assert [path.name for path in tmp_path.iterdir()] == [name]
    again = (tmp_path / name).read_bytes()
    write(tmp_path / name)
    assert (tmp_path / name).read_bytes() == again


def test_what_steers_a_terminal_is_escaped_and_comes_back():
    row = {"text": "\x9b31m \x7f \u202e \u2028 \x85 \x1b[2J 海é"}
    lines = as_lines([row])
    assert json.loads(lines) == row and "海é" in lines.decode()
    assert lines.decode().splitlines() == [lines.decode().removesuffix("\n")]
    assert not set(lines.decode()) & set("\x9b\x7f\u202e\u2028\x85\x1b")


def test_csv_has_a_column_for_each_number(tmp_path):
    write(tmp_path / "out.csv.gz")
    text = gzip.decompress((tmp_path / "out.csv.gz").read_bytes()).decode()
    first, second = csv.DictReader(text.splitlines())
    assert first["apc.score"] == "1.5" and first["apc.interval"] == "[1, 2]"
    assert second["tags"] == '["a"]' and second["error"] == "why" and second["apc.score"] == ""


def test_parquet_keeps_numbers_and_what_has_no_common_type_as_json(tmp_path):
    write(tmp_path / "out.parquet")
    first, second = parquet.read_table(tmp_path / "out.parquet").to_pylist()
    assert first["apc"] == {"score": 1.5, "interval": [1, 2]} and first["n"] == 1
    assert first["mixed"] == "1" and second["mixed"] == '"x"' and second["empty"] == "{}"
    assert second["tags"] == ["a"] and second["apc"] is None and first["tags"] is None


def test_a_later_run_goes_on_and_another_run_does_not(tmp_path):
    target = tmp_path / "out.jsonl"
    with pytest.raises(KeyboardInterrupt), sink(str(target), lambda: "a") as first:
        first.write(ROWS[:1], {"rows": 1})
        first.note("cache", 7)
        first._file.write(b'{"torn')
        raise KeyboardInterrupt
    assert not target.exists()
    other = Partial(target, "b")
    assert other.done == 0 and other.kept() == {}
    other.close()
    assert not list(tmp_path.iterdir())


def test_rows_that_are_sure_are_kept(tmp_path):
    target = tmp_path / "out.jsonl"
    first = Partial(target, "a")
    first.note("cache", 7)
    first.write(ROWS[:1], {"rows": 1})
    first._file.write(b'{"torn')
    with pytest.raises(TryAgainLater, match="another apc"):
        Partial(target, "a")
    first.close()
    with sink(str(target), lambda: "a") as second:
        assert second.done == 1 and second.kept() == {"rows": 1} and second.note("cache", 9) == 7
        second.write(ROWS[1:], {"rows": 2})
    assert target.read_text() == LINES
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]


def test_packed_parquet_is_refused():
    with pytest.raises(ConfigError, match="packed already"):
        check_format("out.parquet.gz")
