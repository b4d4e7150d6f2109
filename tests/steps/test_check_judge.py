"""`apc check-judge`: what it measures, and labelled files that are not as they should be."""

import csv
import gzip
import json
import math

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from quiet import Quiet

from apc_cli.errors import DataError
from apc_cli.files.row_files import opened
from apc_cli.models.judging.scorer import Scorer
from apc_cli.records import NLI_LABELS
from apc_cli.steps.check_judge import read_rows, run

STATEMENTS = ["Mara is a baker.", "Mara owns two cats."]


def row(**changes):
    return {
        "character": "Mara",
        "statement": STATEMENTS[0],
        "query": "What do you do?",
        "response": "I bake.",
        "relevant": "yes",
        "nli": "entailed",
    } | changes


def rows(*raw):
    return read_rows(((f"f line {i}", one) for i, one in enumerate(raw, start=1)), "f")


@pytest.fixture(scope="module")
def scorer(models):
    folder = models / "evaluator"
    return Scorer.load(relevance=str(folder / "relevance"), nli=str(folder / "nli"), device="cpu")


def test_the_judge_s_figures_are_those_of_its_own_probabilities(scorer):
    data = rows(
        row(),
        row(statement=STATEMENTS[1], relevant="no", nli="neutral"),
        row(character="Ole", statement="Ole sings.", response="Never.", nli="contradicted"),
    )
    report = run(data, {}, scorer, Quiet())
    hits, asked = [], []
    for item in data:
        [score] = scorer.score(item.character, [item.statement], item.query, [item.response])
        [found] = score.constraints
        given = np.argmax([found.contradicted, found.neutral, found.entailed])
        hits.append(NLI_LABELS[given] == item.nli)
        relevance = scorer.relevance(item.character, [item.statement], item.query)[0]
        asked.append((relevance > 0.5) == (item.relevant == "yes"))
    assert report["nli"]["judge"]["accuracy"] == pytest.approx(np.mean(hits))
    assert report["relevance"]["judge"]["rows"] == 3
    assert report["relevance"]["judge"]["accuracy"] == pytest.approx(np.mean(asked))
    assert "ranking" not in report and "word overlap" in report["nli"]


def test_ranks_are_compared_with_delta_over_the_whole_persona(scorer):
    replies = ["I bake bread.", "I am a dentist.", "Well."]
    data = rows(*(row(response=r, group="g", rank=i) for i, r in enumerate(replies, 1)))
    scores = [s.delta for s in scorer.score("Mara", STATEMENTS, data[0].query, replies)]
    expected = np.mean([scores[0] > scores[1], scores[0] > scores[2], scores[1] > scores[2]])
    report = run(data, {"Mara": STATEMENTS}, scorer, Quiet())
    assert report["ranking"] == {"pairs": 3, "in_order": pytest.approx(expected)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"relevant": "maybe"}, "line 1: `relevant` is 'maybe'"),
        ({"nli": "contradict"}, "line 1: `nli` is 'contradict'"),
        ({"response": None}, "line 1: `response` must be text"),
        ({"statement": " "}, "line 1: `statement` must be text"),
        ({"character": 7}, "line 1: `character` must be text"),
        ({"rank": 0}, "line 1: `rank`"),
        ({"rank": 1}, "belong together"),
        ({"group": "g"}, "belong together"),
        ({"rank": 1, "group": "g", "response": None, "nli": None}, "belong together"),
        ({"relevant": None, "nli": None}, "line 1: no label"),
    ],
)
def test_a_wrong_row_is_named(changes, message):
    with pytest.raises(DataError, match=message):
        rows(row(**changes))


def test_labels_that_disagree_with_themselves(scorer):
    with pytest.raises(DataError, match="both relevant and not"):
        run(rows(row(), row(response="x", relevant="no")), {}, scorer, Quiet())
    ranked = [row(group="g", rank=rank) for rank in (1, 2)]
    with pytest.raises(DataError, match="ranks 1 and 2"):
        run(rows(*ranked), {}, scorer, Quiet())


def test_a_file_without_rows():
    with pytest.raises(DataError, match="f has no rows"):
        rows()


def test_csv_and_parquet_say_what_json_lines_say(tmp_path):
    raw = [row(), row(response="", nli=None), row(nli=None, group="g", rank=2)]
    (tmp_path / "f.jsonl").write_text("".join(json.dumps(one) + "\n" for one in raw))
    columns = [*row(), "group", "rank"]
    with (tmp_path / "f.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(raw)
    gaps = {key: [one.get(key) for one in raw] for key in columns}
    gaps["rank"] = pa.array([math.nan, math.nan, 2.0])  # as pandas writes whole numbers with gaps
    parquet.write_table(pa.table(gaps), tmp_path / "f.parquet")
    for name in ("f.jsonl", "f.csv", "f.parquet"):
        with opened(str(tmp_path / name)) as [file]:
            assert read_rows(file.rows("hint"), "f") == rows(*raw)
    text = (tmp_path / "f.csv").read_text()
    (tmp_path / "f.csv").write_text(text.replace("g,2", "g,2.0"))  # as pandas writes them
    with opened(str(tmp_path / "f.csv")) as [file]:
        assert read_rows(file.rows("hint"), "f") == rows(*raw)
    (tmp_path / "f.csv").write_text(text.replace("g,2", "g," + "9" * 5000))
    with opened(str(tmp_path / "f.csv")) as [file], pytest.raises(DataError, match="`rank`"):
        read_rows(file.rows("hint"), "f")


def test_the_command_prints_a_table_and_json(project, apc):
    (project / "gold.jsonl").write_text(json.dumps(row()) + "\n" + json.dumps(row(nli="neutral")))
    code, out, err = apc("check-judge", "gold.jsonl", "--character", "Mara", "--profile", "offline")
    assert code == 0, err
    report = json.loads(out, parse_constant=pytest.fail)
    assert report["nli"]["judge"]["rows"] == 2
    assert report["relevance"]["judge"]["rows"] == 1 and report["relevance"]["judge"]["auc"] is None
    assert "Agreement with the labels" in err and "nli, word overlap" in err
    assert "nli: labelled (down) and found (across)" in err
    assert not report["nli"]["beats_baselines"]
    assert "warning: the nli judge is no better than word overlap" in err
    lines = (project / "gold.jsonl").read_bytes()
    (project / "packed").write_bytes(gzip.compress(lines))
    code, again, err = apc("check-judge", "packed", "--character", "Mara", "--profile", "offline")
    assert code == 0 and again == out, err


@pytest.mark.parametrize(
    ("name", "content", "code", "words"),
    [
        ("gold.jsonl", "{", 65, "gold.jsonl line 1: not JSON"),
        ("gold.jsonl", "", 65, "gold.jsonl has no rows"),
        ("gold.jsonl", None, 2, "does not exist"),
        ("gold.csv", "character,query\nMara", 65, "gold.csv line 2: more or fewer cells"),
        ("gold.parquet", "PAR1", 65, "gold.parquet cannot be read as Parquet"),
    ],
)
def test_a_bad_file_is_one_line(project, apc, name, content, code, words):
    if content is not None:
        (project / name).write_text(content)
    found = apc("check-judge", name, "--profile", "offline")
    assert found[0] == code and found[1] == "" and words in found[2]
    assert found[2].startswith("error: ") and found[2].count("\n") == 1


def test_a_wrong_row_with_others_behind_it_is_one_line(project, apc_process):
    (project / "gold.csv").write_text("character,rank\nMara,1\nMara,2\n")
    process = apc_process("check-judge", "gold.csv", "--profile", "offline")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 65 and err.count("\n") == 1
    assert err.startswith("error: gold.csv line 2: `statement` must be text")
