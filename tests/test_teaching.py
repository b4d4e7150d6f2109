"""Stages taught by an LLM, from the command line: cost, limits, failures, languages, the secret."""

import itertools
import json
import os
import signal
import time
from pathlib import Path

import pytest
from fake_openai import FakeOpenAI

KEY = "sk-canary-0123456789abcdef"
LLM = ("--set", "teacher.backend=openai")
PRICED = ("--set", "teacher.price_input=100", "--set", "teacher.price_output=100")
MARA = ("--character", "Mara", "--set", "device=cpu")
TEXTS = {
    "ja": (
        "みずき",
        "みずきは灯台に住んでいる。みずきは猫を二匹飼っている。\n\nみずきは船が怖い。",
    ),
    "zh": ("沈青禾", "沈青禾住在临安。沈青禾会修油纸伞。\n\n沈青禾怕打雷。"),
}


@pytest.fixture
def server(monkeypatch):
    with FakeOpenAI() as running:
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setenv("OPENAI_BASE_URL", running.url)
        yield running


@pytest.fixture
def faulty(monkeypatch):
    """Starts a server with a plan of faults."""
    started = []

    def start(plan):
        running = FakeOpenAI(plan).__enter__()
        started.append(running)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setenv("OPENAI_BASE_URL", running.url)
        return running

    yield start
    for running in started:
        running.__exit__()


def taught(project, *settings, who="Mara"):
    """Builds the labelled data, without training on it."""
    from quiet import Quiet

    from apc_cli.cli import options
    from apc_cli.config import load_config
    from apc_cli.workshop import Workshop
    from apc_cli.workspace import Workspace

    config = load_config(who, settings=("teacher.backend=openai", *settings), folder=project)
    shop = Workshop(config, Workspace(project / "workspace", who), Quiet(), project)
    options.build(shop, "label-data", (), dry_run=False)
    return shop


def rows(project, name, who="Mara"):
    text = (project / "workspace" / who / name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.split("\n") if line]


def manifest(project):
    return json.loads((project / "workspace/Mara/manifest.json").read_text())


def test_stages_are_taught_counted_and_not_asked_again(project, apc, server):
    code, out, err = apc("queries", *MARA, *LLM, *PRICED)
    assert code == 0 and out == ""
    found = manifest(project)
    for stage in ("statements", "queries"):
        cost = found[stage]["cost"]
        assert cost["requests"] > 0 and cost["stored"] == 0
        tokens = cost["input_tokens"] + cost["output_tokens"]
        assert cost["dollars"] == pytest.approx(tokens * 100 / 1e6)
        assert f"{cost['requests']} requests, 0 replies from the journal" in err
    asked = server.requests
    code, _, err = apc("queries", *MARA, *LLM, *PRICED, "--force")
    assert code == 0 and server.requests == asked
    assert "0 requests, 5 replies from the journal" in err
    code, _, err = apc("queries", *MARA, *LLM, *PRICED)
    assert "nothing to do" in err


def test_a_dry_run_tells_the_price_without_a_key(project, apc, server, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    command = ("train-discriminators", *MARA, *LLM)
    code, _, err = apc(*command, "--dry-run", "--set", "teacher.model=gpt-4.1")
    assert code == 0 and "statements, extract_statements: about 2 requests" in err
    assert "price unknown" in err and server.requests == 0
    monkeypatch.setenv("OPENAI_BASE_URL", "https://api.openai.com/v1")
    code, _, err = apc(*command, "--dry-run", "--set", "teacher.model=gpt-4.1")
    assert "estimate: about" in err and "$0.0" in err
    assert not list(project.glob("workspace/**/teacher.journal"))


def test_the_estimate_is_near_what_is_used(project, apc, server):
    apc("queries", *MARA, *LLM)
    _, _, err = apc("train-discriminators", *MARA, *LLM, "--dry-run")
    lines = [line for line in err.splitlines() if "label-data, " in line]
    estimated = sum(int(line.split(" requests, ")[1].split()[0].replace(",", "")) for line in lines)
    requests = sum(int(line.split("about ")[1].split()[0]) for line in lines)
    taught(project)
    cost = manifest(project)["label-data"]["cost"]
    assert requests == cost["requests"]
    assert estimated == pytest.approx(cost["input_tokens"], rel=0.2)


def test_the_evaluator_is_estimated_under_its_own_name_and_price(project):
    from apc_cli.config import load_config
    from apc_cli.estimating import model_of
    from apc_cli.teaching import configured_price

    settings = ("teacher.model=a", "evaluator.model=b", "evaluator.backend=openai")
    prices = ("teacher.price_input=1", "teacher.price_output=2")
    character = load_config("Mara", settings=(*settings, *prices), folder=project).character
    assert [model_of(stage, character) for stage in ("queries", "evaluation")] == ["a", "b"]
    assert configured_price(character, "a").output == 2
    assert configured_price(character, "b") is None


def test_a_stage_taught_by_batches(project, apc, server):
    code, _, err = apc("statements", *MARA, *LLM, *PRICED, "--set", "teacher.batch=true")
    assert code == 0 and "asked by batches" in err
    assert server.batches.created == 1 and server.requests == 0
    cost = manifest(project)["statements"]["cost"]
    tokens = cost["input_tokens"] + cost["output_tokens"]
    assert cost["dollars"] == pytest.approx(tokens * 50 / 1e6)


def test_limits_end_a_run_that_goes_on_later(project, apc, server):
    code, _, err = apc("queries", *MARA, *LLM, "--max-requests", "4")
    assert code == 75 and "--max-requests 4 is reached" in err and server.requests == 4
    code, _, err = apc("queries", *MARA, *LLM)
    assert code == 0 and max(server.deliveries.values()) == 1
    code, _, err = apc("queries", *MARA, *LLM, "--force", "--max-cost", "1")
    assert code == 2 and "--max-cost needs a price" in err and "price_input" in err


def test_failed_items_are_listed_told_and_retried_if_it_may_help(project, apc, faulty):
    server = faulty([None, None, "400", None, *["html"] * 3])
    code, _, err = apc("queries", *MARA, *LLM, "--set", "teacher.concurrency=1",
                       "--set", "teacher.max_failed=0.9")  # fmt: skip
    assert code == 3 and "2 items failed" in err
    failed = rows(project, "failures.jsonl")
    assert [row["temporary"] for row in failed] == [False, True]
    assert {row["stage"] for row in failed} == {"queries"}
    assert "HTTP 400" in failed[0]["reason"] and failed[0]["about"]["statement"]
    asked = server.requests
    code, _, err = apc("queries", *MARA, *LLM, "--set", "teacher.max_failed=0.9")
    assert "1 items failed for a passing reason" in err
    assert server.requests == asked + 2 and code == 0
    assert not (project / "workspace/Mara/failures.jsonl").exists()


def test_too_many_failures_stop_a_stage_and_are_listed(project, apc, faulty):
    faulty([None, None, *["400"] * 30])
    code, _, err = apc("queries", *MARA, *LLM)
    assert code == 1 and "questions of the kind propose_queries have no answer" in err
    assert len(rows(project, "failures.jsonl")) >= 3
    assert "queries" not in manifest(project)


@pytest.mark.parametrize("language", ["ja", "zh"])
def test_a_character_of_another_language_is_taught_in_it(project, server, language):
    name, text = TEXTS[language]
    (project / "wiki" / f"{name}_wiki.txt").write_text(text, encoding="utf-8")
    shop = taught(project, f"language={language}", who=name)
    assert shop.failed == 0
    statements = rows(project, "statements.jsonl", name)
    assert len(statements) == 3 and all(name in row["statement"] for row in statements)
    assert statements[0]["source"] in text
    nli = rows(project, "nli.jsonl", name)
    assert {row["label"] for row in nli} == {"contradicted", "neutral", "entailed"}
    assert {row["source"] for row in nli} == {"logprobs"}
    assert all(0.5 < max(row["probabilities"]) < 1 for row in nli)


def test_the_rules_know_no_japanese(project, apc):
    options = ("--character", "Mara", "--profile", "offline", "--set", "language=ja")
    code, _, err = apc("statements", *options)
    assert code == 2 and "knows no ja" in err and "OPENAI_API_KEY" in err


def test_an_llm_scores_rows_through_a_journal(project, apc, server, tmp_path):
    row = {"query": "Where do you bake?", "response": "Well, it is said that Mara bakes in Lund.",
           "statements": ["Mara bakes in Lund.", "Mara owns two cats."]}  # fmt: skip
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(row | {"id": 2}))
    options = ("--set", "evaluator.backend=openai", "--set", "device=cpu", "--explain")
    code, out, err = apc("score", "rows.jsonl", *options)
    assert code == 0, err
    first, second = map(json.loads, out.splitlines())
    assert first["apc"] == second["apc"] and server.requests == 4
    entailed, neutral = first["constraints"]
    assert entailed["entailed"] > 0.9 > 0.2 > neutral["relevance"]
    assert first["apc"]["score"] == pytest.approx(
        sum(c["satisfaction"] for c in first["constraints"]), abs=1e-4
    )
    assert "asked: 4 requests" in err
    assert "score, judge_relevance: about 2 requests" in err
    assert "score, judge_nli: about 2 requests" in err and "estimate: about 4 requests" in err
    code, _, err = apc("score", "rows.jsonl", *options)
    assert code == 0 and server.requests == 4 and "requests, price" not in err


def test_a_row_without_a_verdict_keeps_its_place(project, apc, faulty, tmp_path):
    faulty([None, None, "400", None])
    row = {"query": "Where?", "response": "In Lund.", "statements": ["Mara bakes."]}
    lines = [json.dumps(row), json.dumps(row | {"response": "At sea."})]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    options = ("--set", "evaluator.backend=openai", "--set", "teacher.concurrency=1")
    code, out, _ = apc("score", "rows.jsonl", *options, "--set", "device=cpu")
    found = [json.loads(line) for line in out.splitlines()]
    assert code == 3 and sorted("error" in row for row in found) == [False, True]


def test_a_terminated_run_keeps_the_replies_that_are_under_way(project, apc_process, server):
    server.delay = 0.3
    child = apc_process("queries", *MARA, *LLM, env=os.environ)
    while server.requests < 3 and child.poll() is None:
        time.sleep(0.01)
    child.send_signal(signal.SIGTERM)
    assert child.wait(10) == 143
    delivered = sum(server.deliveries.values())
    assert delivered == server.requests
    server.delay = 0
    child = apc_process("queries", *MARA, *LLM, env=os.environ)
    assert child.wait(30) == 0 and set(server.deliveries.values()) == {1}


def test_a_second_interrupt_ends_a_run_at_once(project, apc_process, server):
    server.delay = 20
    child = apc_process("queries", *MARA, *LLM, env=os.environ)
    while not server.requests and child.poll() is None:
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert child.poll() is None  # it waits for what is under way
    child.send_signal(signal.SIGINT)
    assert child.wait(2.5) == 130


def test_parameters_that_a_server_does_not_take_are_told(project, apc, server):
    server.refuses = {"response_format", "max_tokens"}
    code, _, err = apc("queries", *MARA, *LLM)
    assert code == 0 and "does not take response_format as asked" in err
    assert len(rows(project, "queries.jsonl")) > 3  # read from lines, not from JSON


def test_the_key_is_nowhere(project, apc_process, faulty):
    plan = ["500", None, "400", "html", "echo200", None, "429:0", "401echo"]
    faulty(itertools.chain(plan, itertools.repeat("401echo")))
    child = apc_process("queries", *MARA, *LLM, env=os.environ | {"APC_DEBUG": "1"})
    command = b""
    while child.poll() is None and not command:
        command = Path(f"/proc/{child.pid}/cmdline").read_bytes()
    out, err = child.communicate(timeout=30)
    assert child.returncode not in (0, None) and b"queries" in command
    assert KEY not in out + err and KEY.encode() not in command
    files = [path for path in project.rglob("*") if path.is_file()]
    assert any(path.name == "teacher.journal" for path in files)
    assert not [path for path in files if KEY.encode() in path.read_bytes()]


def test_an_llm_measures_the_trained_character(project, apc, server):
    (project / "facts.txt").write_text("Mara bakes in Lund.\nMara owns two cats.\n")
    options = ("--set", "teacher.backend=rules", "--set", "evaluator.backend=openai")
    options += ("--set", "persona.statements=facts.txt")
    options += ("--set", "evaluation.held_out_queries=1", "--set", "warm_up.epochs=0")
    code, _, err = apc("train", *MARA, *options)
    assert code == 0, err
    report = json.loads((project / "workspace/Mara/evaluation.json").read_text())
    assert report["evaluator"]["nli"] == "LLM gpt-4.1"
    assert "evaluation, judge_nli: about" in err
    cost = manifest(project)["evaluation"]["cost"]
    assert cost["requests"] == server.requests > 0
    asked = server.requests
    options += ("--set", "evaluation.resamples=50")
    code, _, err = apc("train", *MARA, *options)
    assert code == 0 and "evaluation: " in err and server.requests == asked
