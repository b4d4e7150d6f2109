"""`apc score`: exact scores, every row in its place, and files as they come."""

import gzip
import io
import json
import os
import sys
import threading

import pytest
from quiet import Quiet

from apc_cli.errors import DataError
from apc_cli.files.row_files import RowFile
from apc_cli.files.scored_files import Stream
from apc_cli.models.judging.engines import score_shard
from apc_cli.models.judging.scorer import Scorer
from apc_cli.records import NLI_LABELS, RELEVANCE_LABELS, Statement
from apc_cli.steps import score
from apc_cli.workspace import Workspace

MARA = ("--character", "Mara", "--profile", "offline")
STATEMENTS = ["Mara is a baker.", "Mara owns two cats.", "Mara fears dogs."]
ROW = {"query": "Who are you?", "response": "I am a baker.", "statements": STATEMENTS}


@pytest.fixture(scope="module")
def scorer(models):
    return load(models)


def load(models):
    folder = models / "evaluator"
    return Scorer.load(relevance=str(folder / "relevance"), nli=str(folder / "nli"), device="cpu")


def lines(*rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def checked(content):
    data = content if isinstance(content, bytes) else content.encode()
    rows = score.Rows([RowFile("f", lambda: io.BytesIO(data))])
    return rows, rows.check()


def run(scorer, content, statements_of=None, character=None, explain=False):
    """(scored rows, totals) of a file with this content."""
    out, progress = io.BytesIO(), Quiet()
    rows, count = checked(content)
    totals = score.run(
        rows,
        count,
        lambda row: score.resolved(row, character, statements_of),
        lambda shards: (score_shard(scorer, shard, explain) for shard in shards),
        Stream(out),
        progress,
    )
    found = [json.loads(line) for line in out.getvalue().decode().split("\n")[:-1]]
    assert sum(progress.steps) == count == len(found) == totals.rows
    return found, totals


# The numbers


def test_scores_are_those_of_a_plain_loop_over_both_discriminators(models):
    from apc_cli.models.judging.discriminator import Discriminator
    from apc_cli.prompts import nli_prompt, relevance_prompt

    folder = models / "evaluator"
    judges = [
        Discriminator.load(str(folder / kind), labels=labels, device="cpu", dtype="float32")
        for kind, labels in (("relevance", RELEVANCE_LABELS), ("nli", NLI_LABELS))
    ]
    replies = ["I am a baker.", "I own two cats and fear dogs.", ""]
    rows = lines(*(ROW | {"response": reply} for reply in replies))
    found, totals = run(Scorer(*judges), rows, explain=True)
    sums = {"score": 0.0, "delta": 0.0}
    for row, reply in zip(found, replies, strict=True):
        total = reward = penalty = 0.0
        for statement, shown in zip(STATEMENTS, row["constraints"], strict=True):
            asked = relevance_prompt(judges[0].style, "the character", [statement], ROW["query"])
            said = nli_prompt(judges[1].style, "the character", [statement], ROW["query"], reply)
            [[no, yes]] = judges[0].prompt_probabilities([asked])[0].tolist()
            [[contradicted, neutral, entailed]] = judges[1].prompt_probabilities([said])[0].tolist()
            assert no + yes == pytest.approx(1, abs=1e-5)
            satisfied = yes * entailed + (1 - yes) * (1 - contradicted)
            total += satisfied
            reward += yes * entailed
            penalty += (1 - yes) * contradicted
            assert shown["statement"] == statement
            assert shown["relevance"] == pytest.approx(yes, abs=1e-4)
            assert shown["contradicted"] == pytest.approx(contradicted, abs=1e-4)
            assert shown["neutral"] == pytest.approx(neutral, abs=1e-4)
            assert shown["entailed"] == pytest.approx(entailed, abs=1e-4)
            assert shown["satisfaction"] == pytest.approx(satisfied, abs=1e-4)
            kinds = {"active"} if yes >= 0.5 else {"passive"}
            assert shown["violation"] in kinds | {None}
        apc = row["apc"]
        assert apc["score"] == pytest.approx(total, abs=3e-4)
        assert apc["active_reward"] == pytest.approx(reward, abs=3e-4)
        assert apc["passive_penalty"] == pytest.approx(penalty, abs=3e-4)
        assert apc["delta"] == pytest.approx(reward - penalty, abs=3e-4)
        assert apc["statements"] == 3
        sums = {key: sums[key] + apc[key] for key in sums}
    assert totals.mean("score") == pytest.approx(sums["score"] / 3)
    assert totals.mean("delta") == pytest.approx(sums["delta"] / 3)
    assert len({row["apc"]["score"] for row in found}) == 3


def test_rows_are_those_of_the_scorer(scorer, models):
    [found], _ = run(scorer, lines(ROW), explain=True)
    [expected] = load(models).score("the character", STATEMENTS, ROW["query"], [ROW["response"]])
    assert found == ROW | expected.row(explain=True)
    [brief], _ = run(scorer, lines(ROW))
    assert brief == ROW | expected.row()
    assert list(brief["apc"]) == [
        "score", "delta", "active_reward", "passive_penalty", "interval", "statements", "unsure",
    ]  # fmt: skip


def test_the_persona_is_that_of_each_row(scorer):
    personas = {"Mara": STATEMENTS, "Ana": STATEMENTS[:1]}
    plain = {"query": "q", "response": "r"}
    found, totals = run(
        scorer,
        lines(
            plain,
            plain | {"character": "Ana"},
            plain | {"character": "Ana", "statements": STATEMENTS[:2]},
            plain | {"character": None, "statements": None},
            plain | {"character": ""},
        ),
        lambda who: personas[who],
        character="Mara",
    )
    assert [row["apc"]["statements"] for row in found] == [3, 1, 2, 3, 3]
    assert totals.statements == 12 and not totals.errors


def test_unknown_keys_go_through_and_old_results_do_not(scorer):
    extra = {
        "id": 7,
        "tags": ["é", None, {"x": 1.5}],
        "history": [{"role": "user", "content": "x"}],
    }
    [clean], _ = run(scorer, lines(ROW | extra))
    assert {key: clean[key] for key in extra} == extra
    stale = {"apc": {"score": 99, "statements": 1}, "error": "old", "constraints": []}
    [again], totals = run(scorer, lines(ROW | extra | stale))
    assert again == clean and not totals.errors


def test_an_unscorable_row_keeps_its_place(scorer):
    from apc_cli.errors import ConfigError

    def nobody(who):
        raise ConfigError(f"no {who}")

    other = {"query": "q", "response": "r", "character": "Zed", "apc": {"score": 9}}
    found, totals = run(scorer, lines(ROW, other, ROW), nobody)
    assert ["apc" in row for row in found] == [True, False, True]
    assert found[1]["error"] == "no Zed"
    assert totals.errors == {"no Zed": 1} and totals.scored == 2


def test_three_thousand_rows_stay_in_order(scorer):
    rows = [
        {
            "id": i,
            "query": f"q{i % 3}",
            "response": f"r{i % 5}",
            "statements": STATEMENTS[: 1 + i % 2],
        }
        for i in range(3000)
    ]
    found, totals = run(scorer, lines(*rows))
    assert [row["id"] for row in found] == list(range(3000))
    assert totals.scored == 3000
    values = {}
    for row in found:
        values.setdefault((row["id"] % 3, row["id"] % 5, row["id"] % 2), set()).add(
            round(row["apc"]["score"], 3)
        )
    assert len(values) == 30 and all(max(v) - min(v) <= 0.002 for v in values.values())


# The file


def test_bom_crlf_blank_lines_and_separators_change_nothing(scorer):
    odd = ROW | {"response": "a\u2028b\u0085c"}
    clean, _ = run(scorer, lines(odd, ROW))
    text = lines(odd, ROW).replace("\n", "\r\n\r\n  \r\n").rstrip()
    found, _ = run(scorer, b"\xef\xbb\xbf" + text.encode())
    assert found == clean and found[0]["response"] == "a\u2028b\u0085c"


GOOD = lines(ROW).encode()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "has no rows"),
        (b"\n \n\xef\xbb\xbf", "no"),
        (GOOD + GOOD[:-9], "line 2: not JSON"),
        (GOOD + b"query,response\n", "line 2: not JSON"),
        (GOOD[:-1] + b"\r" + GOOD, "line 1: not JSON"),
        (b'{"query": "a\0", "response": ""}', "line 1: not JSON"),
        (b'{"query": "\xff", "response": ""}', "line 1: not UTF-8 .byte 11"),
        (b'{"query": "\\ud800", "response": ""}', "line 1: a lone surrogate"),
        (b'{"query": "", "response": "", "x": {"\\udfff": 1}}', "line 1: a lone surrogate"),
        (b"null", "line 1: not an object"),
        (b"[]", "line 1: not an object"),
        (b'{"query": "q"}', "line 1: `response` must be text"),
        (b'{"query": null, "response": "r"}', "line 1: `query` must be text"),
        (b'{"query": "q", "response": 1}', "line 1: `response` must be text"),
        (b'{"query": "q", "response": "r", "character": 5}', "line 1: `character` must be text"),
        (b'{"query": "q", "response": "r", "statements": "s"}', "line 1: `statements` must"),
        (b'{"query": "q", "response": "r", "statements": []}', "line 1: `statements` must"),
        (b'{"query": "q", "response": "r", "statements": ["s", " "]}', "line 1: `statements` must"),
        (b'{"query": "q", "response": "r", "statements": [1]}', "line 1: `statements` must"),
        (b'{"query": "q", "response": "r", "x": NaN}', "line 1: .*NaN"),
        (b'{"query": "q", "response": "r", "x": 1e999}', "line 1: not JSON"),
        (b'{"query": "q", "response": "r", "x": ' + b"1" * 5000 + b"}", "line 1: not JSON"),
        (b'{"query": "q", "query": "q", "response": "r"}', "line 1: .*twice"),
        (b'{"query": "q", "x": ' + b"[" * 100_000, "line 1: nested too deeply"),
        (b'{"query": "q", "x": ' + b'{"a":' * 100_000, "line 1: nested too deeply"),
        (
            lines(ROW | {"id": "x"}, ROW, ROW | {"id": "x"}).encode(),
            "id 'x' is on f line 1 and on f line 3",
        ),
        (gzip.compress(GOOD)[:-9], "is damaged"),
        (b"\x1f\x8b....", "is damaged"),
        (b"\x28\xb5\x2f\xfd....", "is damaged"),
        (b"PAR1....", "cannot be read as Parquet"),
        (lines(ROW).encode("utf-16"), "is UTF-16"),
    ],
)
def test_bad_files_are_refused_before_any_model(content, said):
    with pytest.raises(DataError, match=said) as caught:
        checked(content)
    assert caught.value.exit_code == 65


def test_ids_of_other_kinds_are_not_duplicates():
    rows = [ROW | {"id": i} for i in (1, "1", None, None, [1], {"a": 1})]
    assert checked(lines(*rows))[1] == 6


# The command


@pytest.fixture
def file(project):
    path = project / "rows.jsonl"
    path.write_text(lines(ROW | {"id": 1}, ROW | {"id": 2, "response": "I fear cats."}))
    return path


def test_rows_on_stdout_summary_on_stderr(file, apc):
    code, out, err = apc("score", "rows.jsonl", *MARA, "--explain")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0, err
    assert [row["id"] for row in rows] == [1, 2] and len(rows[0]["constraints"]) == 3
    mean = sum(row["apc"]["score"] for row in rows) / 2
    assert "2 of 2" in err and f"{mean:.4f}" in err


def test_a_fifo_and_stdin_and_a_file_give_the_same(file, project, apc, monkeypatch):
    _, expected, _ = apc("score", "rows.jsonl", *MARA)
    stream = io.TextIOWrapper(io.BytesIO(file.read_bytes()))
    monkeypatch.setattr(sys, "stdin", stream)
    code, out, _ = apc("score", "-", *MARA)
    assert (code, out) == (0, expected)
    os.mkfifo(project / "fifo")
    writer = threading.Thread(target=(project / "fifo").write_bytes, args=(file.read_bytes(),))
    writer.start()
    code, out, err = apc("score", "fifo", *MARA)
    writer.join()
    assert (code, out) == (0, expected), err


def test_statements_come_from_the_workspace(project, apc, file):
    place = Workspace(project / "workspace", "Ana")
    place.create()
    place.write_rows("statements.jsonl", [Statement("Ana is tall."), Statement("Ana sings.")])
    plain = {"query": "q", "response": "r"}
    file.write_text(lines(plain | {"character": "Ana"}, ROW, plain, plain | {"character": "a\0"}))
    code, out, err = apc("score", "rows.jsonl", *MARA)
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 3 and "2 of 4" in err
    assert [row.get("apc", {}).get("statements") for row in rows] == [2, 3, None, None]
    assert "no statements of Mara" in rows[2]["error"] and "name" in rows[3]["error"]


def test_no_character_is_needed_when_rows_bring_statements(file, models, apc):
    pair = [
        f"--set=evaluator.{kind}={models / 'evaluator' / kind}" for kind in ("relevance", "nli")
    ]
    code, out, err = apc("score", "rows.jsonl", "--profile", "offline", *pair)
    assert code == 0, err
    file.write_text(lines({"query": "q", "response": "r"}))
    code, out, err = apc("score", "rows.jsonl", "--profile", "offline", *pair)
    assert code == 3 and json.loads(out)["error"] == "the row has no statements and no character"


def test_rows_that_name_nobody_are_told_of(project, apc):
    (project / "r.jsonl").write_text(lines(ROW, ROW, ROW | {"character": "Mara"}))
    judges = ("--set", "evaluator.relevance=./none")
    code, _, err = apc("score", "r.jsonl", "--profile", "offline", *judges)
    assert code == 2 and "warning: 2 rows name no character" in err
    assert err.index("warning") < err.index("error"), "before any judge is loaded"
    assert "warning" not in apc("score", "r.jsonl", *MARA, *judges)[2]
    (project / "r.jsonl").write_text(lines(ROW))
    assert "1 row names no character" in apc("score", "r.jsonl", "--profile", "offline", *judges)[2]


def test_a_statement_counts_as_much_as_its_weight(project, apc, file):
    assert apc("statements", *MARA)[0] == 0
    stored = Workspace(project / "workspace", "Mara").read_rows("statements.jsonl", Statement)
    file.write_text(lines({"query": "q", "response": "r"}))
    weights = ",".join(f"{json.dumps(row.statement)}: 0" for row in stored[1:])
    code, out, err = apc("score", "rows.jsonl", *MARA, "--set", f"persona.weights={{{weights}}}")
    assert code == 0 and 0 < json.loads(out)["apc"]["score"] <= 1, err


def test_weights_of_no_statement_are_told_of(project, apc):
    weights = "persona.weights={Mara is a pilot.: 0.5, Mara is forty years old.: 0.5}"
    code, _, err = apc("lint", *MARA, "--set", weights)
    assert code == 0 and "warning: persona.weights names no statement: 'Mara is a pilot.'" in err
    (project / "r.jsonl").write_text(lines({"query": "q", "response": "r"}))
    assert "no statement: 'Mara is a pilot.'" in apc("score", "r.jsonl", *MARA, "--set", weights)[2]
    assert err.count("names no statement") == 1


def test_fail_under(file, apc):
    _, out, _ = apc("score", "rows.jsonl", *MARA)
    rows = [json.loads(line)["apc"] for line in out.splitlines()]
    for metric in ("score", "delta"):
        mean = sum(row[metric] for row in rows) / 2
        for bar, code in ((mean - 0.01, 0), (mean + 0.01, 4)):
            found = apc("score", "rows.jsonl", *MARA, f"--fail-under={bar}", "--metric", metric)
            assert found[0] == code
            assert ("is under" in found[2]) == (code == 4)
            assert len(found[1].splitlines()) == 2
    assert apc("score", "rows.jsonl", *MARA, "--fail-under", "nan")[0] == 2


def test_the_output_file_is_whole_or_not_there(file, project, apc):
    _, expected, _ = apc("score", "rows.jsonl", *MARA)
    code, out, err = apc("score", "rows.jsonl", *MARA, "-o", "out.jsonl")
    assert (code, out) == (0, "")
    assert (project / "out.jsonl").read_text() == expected
    (project / "out.jsonl").write_text("old")
    with file.open("a") as more:
        more.write("{")
    assert apc("score", "rows.jsonl", *MARA, "-o", "out.jsonl")[0] == 65
    assert (project / "out.jsonl").read_text() == "old"
    assert {path.name for path in project.iterdir()} <= {
        "configs", "wiki", "rows.jsonl", "out.jsonl", "workspace",
    }  # fmt: skip


def test_a_killed_run_leaves_the_old_output(project, apc_process, file):
    (project / "out.jsonl").write_text("old")
    many = [ROW | {"id": i, "response": f"r{i}"} for i in range(20_000)]
    file.write_text(lines(*many))
    process = apc_process("score", "rows.jsonl", *MARA, "-o", "out.jsonl")
    for line in process.stderr:
        if line.startswith("Scoring"):
            break
    process.kill()
    process.communicate()
    assert (project / "out.jsonl").read_text() == "old"


def test_an_output_that_is_a_pipe_is_written_into(file, project, apc):
    _, expected, _ = apc("score", "rows.jsonl", *MARA)
    os.mkfifo(project / "fifo")
    got = []
    reader = threading.Thread(target=lambda: got.append((project / "fifo").read_text()))
    reader.start()
    code, _, err = apc("score", "rows.jsonl", *MARA, "-o", "fifo")
    reader.join(timeout=60)
    assert code == 0, err
    assert got == [expected] and (project / "fifo").is_fifo()


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("rows.jsonl", "is the input itself"),
        ("./wiki/../rows.jsonl", "is the input itself"),
        ("link", "is the input itself"),
        ("wiki", "is a directory"),
        ("none/out.jsonl", "is no directory"),
        ("out.xlsx", "apc does not write that format"),
        ("out.tsv.gz", "apc does not write that format"),
        ("out.csv.bz2", "apc does not write that format"),
    ],
)
def test_outputs_that_are_refused_before_work(file, project, apc, target, said):
    (project / "link").symlink_to(file)
    before = file.read_bytes()
    code, out, err = apc("score", "rows.jsonl", *MARA, "-o", target)
    assert (code, out) == (2, "") and said in err and "Scoring" not in err
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "code", "said"), [("none.jsonl", 2, "does not exist"), ("wiki", 65, "is a directory")]
)
def test_inputs_that_cannot_be_read(project, apc, name, code, said):
    found = apc("score", name, *MARA)
    assert found[0] == code and said in found[2] and found[2].count("\n") == 1
