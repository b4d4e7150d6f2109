"""Wherever shards are scored, the bytes that come out are the same."""

import importlib.util
import json
import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from apc_cli.errors import ApcError
from apc_cli.files.scored_files import as_lines
from apc_cli.models.judging import engines
from apc_cli.models.judging.engines import Recipe, in_process, in_processes
from apc_cli.models.judging.ray_engine import on_ray
from apc_cli.records import Item

SHARDS = 7


def shards():
    """Uneven shards that share queries and statements, with a row that cannot be scored."""
    for number in range(SHARDS):
        yield [
            Item(
                {"id": f"{number}.{i}", "query": f"Who is {i % 3}?", "response": f"I am {i}. " * i},
                f"Mara {i % 2}",
                tuple(f"Mara owns {n} cats." for n in range(1 + i % 4)),
                "no statements" if i == 2 else None,
            )
            for i in range(3 + number)
        ]


@pytest.fixture(scope="module")
def recipes(models, tmp_path_factory):
    """The shipped kind of judge, and classifiers, whose relevance is kept on disk."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    folder = tmp_path_factory.mktemp("classifiers")
    for kind, labels in (
        ("relevance", ("no", "yes")),
        ("nli", ("contradicted", "neutral", "entailed")),
    ):
        torch.manual_seed(len(labels))
        config = BertConfig.from_pretrained(models / "encoder", num_labels=len(labels))
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: i for i, label in enumerate(labels)}
        BertForSequenceClassification(config).save_pretrained(folder / kind)
        AutoTokenizer.from_pretrained(models / "encoder").save_pretrained(folder / kind)
    return {
        name: Recipe(str(path / "relevance"), str(path / "nli"), "en", False, 0.0)
        for name, path in (("decoder", models / "evaluator"), ("classifier", folder))
    }


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("APC_CACHE", str(tmp_path / "cache"))


def output(engine):
    found = list(engine(shards()))
    assert len(found) == SHARDS
    return b"".join(as_lines(rows) for rows, _ in found)


@pytest.mark.parametrize(("kind", "load"), [("decoder", 1), ("classifier", 3)])
def test_two_processes_give_the_bytes_of_one(recipes, kind, load, monkeypatch):
    monkeypatch.setattr(engines, "load", lambda device: load)
    alone = output(in_process(recipes[kind], "cpu"))
    assert output(in_processes(recipes[kind], ["cpu", "cpu"])) == alone
    rows = [json.loads(line) for line in alone.splitlines()]
    assert len({row["apc"]["score"] for row in rows if "apc" in row}) > 5
    assert [row["error"] for row in rows if "error" in row] == ["no statements"] * SHARDS


def test_two_threads_give_the_bytes_of_one_and_count_cut_texts_once(recipes, monkeypatch):
    from apc_cli.models.judging.networks import FlatClassifier

    real = FlatClassifier.__init__
    monkeypatch.setattr(
        FlatClassifier,
        "__init__",
        lambda self, model, tokenizer, max_tokens=60, packed=None: real(
            self, model, tokenizer, max_tokens, packed
        ),
    )
    results = [
        list(in_process(recipes["classifier"], "cpu", threads)(shards())) for threads in (1, 2)
    ]
    first, second = (b"".join(as_lines(rows) for rows, _ in found) for found in results)
    assert first == second
    cut = [sum(count for _, count in found) for found in results]
    assert cut[0] == cut[1] > 0


def test_a_process_that_dies_is_one_clear_error(recipes):
    broken = Recipe("./nowhere", "./nowhere", "en", False, 0.0)
    with pytest.raises(ApcError, match="process died|does not exist"):
        list(in_processes(broken, ["cpu"])(shards()))


def test_a_process_that_cannot_start_says_why_in_one_line(recipes, capfd):
    broken = replace(recipes["classifier"], weights=(("Mara bakes.", 1, 2),))
    with pytest.raises(ApcError, match="could not start: ValueError"):
        list(in_processes(broken, ["cpu"])(shards()))
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="an optional extra")
@pytest.mark.skipif(not os.environ.get("APC_TEST_RAY"), reason="set APC_TEST_RAY=1: 30 seconds")
@pytest.mark.parametrize("kind", ["decoder", "classifier"])
def test_a_ray_cluster_of_two_workers_gives_the_bytes_of_one_process(recipes, kind, tmp_path):
    alone = output(in_process(recipes[kind], "cpu"))
    assert output(on_ray(recipes[kind], 2, "cpu", tmp_path / "spool")) == alone


def test_relevance_is_kept_for_the_next_run_and_not_read_by_this_one(recipes, monkeypatch):
    from apc_cli.models.judging.discriminator import Discriminator

    asked = []
    real = Discriminator.prompt_probabilities

    def counting(self, prompts, batch_tokens=None):
        if self.width == 2:
            asked.extend(prompts)
        return real(self, prompts, batch_tokens)

    monkeypatch.setattr(Discriminator, "prompt_probabilities", counting)
    recipe = recipes["classifier"]

    def at(moment):
        return Recipe(recipe.relevance, recipe.nli, "en", False, moment)

    first = output(in_process(at(time.time()), "cpu"))
    once = len(asked)
    assert once >= SHARDS
    again = output(in_process(at(time.time()), "cpu"))
    assert again == first and len(asked) == once
    assert output(in_process(at(0.0), "cpu")) == first and len(asked) == 2 * once


COMMAND = [sys.executable, "-m", "apc_cli.cli", "score", "rows.jsonl", "-o", "out.jsonl"]


def test_a_killed_run_goes_on_to_the_same_bytes(project):
    """SIGKILL at three moments; the rows that were sure are not scored again."""
    rows = [
        {"id": i, "query": f"q{i % 50}", "response": f"r{i}", "statements": ["Mara sings.", "x"]}
        for i in range(2500)
    ]
    (project / "rows.jsonl").write_bytes(as_lines(rows))
    command = [*COMMAND, "--character", "Mara", "--profile", "offline"]
    subprocess.run(command, cwd=project, check=True, stderr=subprocess.DEVNULL)
    expected = (project / "out.jsonl").read_bytes()
    (project / "out.jsonl").unlink()
    note, kept = project / ".out.jsonl.partial.json", [0]
    while not (project / "out.jsonl").exists():
        process = subprocess.Popen(command, cwd=project, stderr=subprocess.DEVNULL)
        while process.poll() is None and len(kept) < 4:
            if note.exists() and (done := json.loads(note.read_text())["rows"]) > kept[-1]:
                kept.append(done)
                process.kill()
            time.sleep(0.01)
        process.wait()
    assert len(kept) == 4 and kept[-1] >= 3 * 256
    assert (project / "out.jsonl").read_bytes() == expected
    assert not list(project.glob(".out*"))
