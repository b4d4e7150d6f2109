"""Rows come out of every format as they went in, and damage is told apart."""

import gzip
import io
import json
import os
import resource
import shutil
import socket
import subprocess
import time
import urllib.request
from contextlib import suppress
from datetime import datetime

import pyarrow as pa
import pytest
from backports import zstd
from pyarrow import parquet

from apc_cli.errors import ConfigError, DataError
from apc_cli.files.row_files import RowFile, opened

ROWS = [
    {"id": "1", "query": "Who, you?", "response": 'I "bake".\nBread.', "statements": ["A.", "B."]},
    {"id": "2", "query": "é\u2028日本", "response": "", "extra": "x"},
]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
CSV = (
    b"id,query,response,statements,extra\n"
    b'1,"Who, you?","I ""bake"".\nBread.","[""A."", ""B.""]",\n'
    b"2,\xc3\xa9\xe2\x80\xa8\xe6\x97\xa5\xe6\x9c\xac,,,x\n"
)


def as_parquet(rows):
    out = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows), out)
    return out.getvalue()


def read(name, data):
    return [row for _, row in RowFile(name, lambda: io.BytesIO(data)).rows("hint")]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("f", LINES),
        ("stdin", gzip.compress(LINES)),
        ("f.zst", zstd.compress(LINES[:40]) + zstd.compress(LINES[40:])),
        ("f.csv", CSV),
        ("f.csv", b"\xef\xbb\xbf" + CSV),
        ("F.CSV.gz", gzip.compress(CSV)),
    ],
)
def test_every_format_gives_the_same_rows_twice(name, data):
    file = RowFile(name, lambda: io.BytesIO(data))
    for _ in range(2):
        assert [row for _, row in file.rows("hint")] == ROWS
    assert len(file.digest()) == 64


def test_parquet_as_json_knows_it():
    rows = [
        {"query": "q", "response": "r", "n": 1, "when": datetime(2026, 1, 2), "x": float("nan")},
        {"query": "p", "response": "s", "n": 2, "when": None, "x": 0.5},
    ]
    expected = [rows[0] | {"when": "2026-01-02 00:00:00", "x": None}, rows[1]]
    assert read("stdin", as_parquet(rows)) == expected
    with pytest.raises(DataError, match="row 1: bytes"):
        read("f.parquet", as_parquet([{"query": b"q"}]))


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("f.csv", b"query,query\n1,2\n", "a column is there twice"),
        ("f.csv", b"query,response\n\xff,x\n", "not UTF-8"),
        ("f.csv", b'query,response\n"a"b,x\n', "after line 1"),
        ("f.gz", gzip.compress(LINES)[:-12], "damaged"),
        ("f.zst", zstd.compress(LINES)[:-3], "damaged"),
        ("f.parquet", as_parquet(ROWS)[:-9], "cannot be read as Parquet"),
    ],
)
def test_damage_is_an_error(name, data, said):
    with pytest.raises(DataError, match=said):
        read(name, data)


def test_a_bad_record_takes_the_place_of_its_row():
    file = RowFile("f.csv", lambda: io.BytesIO(b"query,statements\nq\nq,[\nq,\n"))
    found = list(file.rows("hint"))
    assert [place for place, _ in found] == ["f.csv line 2", "f.csv line 3", "f.csv line 4"]
    assert "more or fewer cells" in str(found[0][1]) and "must be JSON" in str(found[1][1])
    assert found[2][1] == {"query": "q"}
    found = list(RowFile("f", lambda: io.BytesIO(b'{"a": 1}\n{"a"\n{"a": 2}\n')).rows("hint"))
    assert found[0][1] == {"a": 1} and found[2][1] == {"a": 2}
    assert isinstance(found[1][1], DataError) and "line 2" in str(found[1][1])


def test_a_directory_is_its_files_in_order(tmp_path):
    (tmp_path / "b.jsonl").write_bytes(LINES)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(CSV))
    (tmp_path / "notes.txt").write_text("no rows")
    for where in (str(tmp_path), tmp_path.as_uri()):
        with opened(where) as files:
            names = [file.name.rsplit("/", 1)[1] for file in files]
            found = [row for file in files for _, row in file.rows("hint")]
        assert names == ["a.csv.gz", "b.jsonl"] and found == ROWS + ROWS
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="without rows"), opened(str(tmp_path / "empty")):
        pass
    for missing in ("none.jsonl", "file:///none/none.jsonl", "what://x/y"):
        with pytest.raises(ConfigError), opened(missing):
            pass


def test_more_files_than_may_be_open_at_once(tmp_path):
    for number in range(100):
        (tmp_path / f"{number:03}.jsonl").write_text(f'{{"n": {number}}}\n')
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 20, hard))
    try:
        with opened(str(tmp_path)) as files:
            for _ in range(2):
                found = [row["n"] for file in files for _, row in file.rows("hint")]
                assert found == list(range(100))
            assert len({file.digest() for file in files}) == 100
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_file_that_goes_away_is_one_line(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"n": 1}\n')
    with opened(str(tmp_path)) as files:
        path.unlink()
        with pytest.raises(ConfigError, match="does not exist"):
            list(files[0].rows("hint"))


@pytest.fixture
def bucket(monkeypatch):
    """An S3 server with two files of rows, and a way to it in the environment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(["moto_server", "-p", str(port)], stderr=subprocess.DEVNULL)
    where = f"http://127.0.0.1:{port}"
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "x"),
        ("AWS_SECRET_ACCESS_KEY", "y"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL", where),
    ):
        monkeypatch.setenv(name, value)
    try:
        for _ in range(300):
            with suppress(OSError), urllib.request.urlopen(where):
                break
            time.sleep(0.1)
        for path, data in (("", b""), ("/in/a.jsonl.gz", gzip.compress(LINES)), ("/in/b.csv", CSV)):
            asked = urllib.request.Request(f"{where}/rows{path}", data, method="PUT")
            asked.add_header("Content-Type", "application/octet-stream")
            urllib.request.urlopen(asked).close()
        yield "s3://rows"
    finally:
        server.terminate()
        server.wait()


@pytest.mark.skipif(not shutil.which("moto_server"), reason="pip install 'moto[server]'")
def test_s3(bucket):
    with opened(f"{bucket}/in") as files:
        assert [file.name for file in files] == ["rows/in/a.jsonl.gz", "rows/in/b.csv"]
        for _ in range(2):
            assert [row for file in files for _, row in file.rows("hint")] == ROWS + ROWS
    with opened(f"{bucket}/in/b.csv") as [file]:
        assert [row for _, row in file.rows("hint")] == ROWS
    with pytest.raises(ConfigError, match="does not exist"), opened(f"{bucket}/none"):
        pass
