"""Earlier turns: what judges are shown of them, what fits, what training puts before a query."""

import json

import pytest

from apc_cli.histories import earlier_turns, fitting, is_history, query_in_context
from apc_cli.models.judging.scorer import Scorer
from apc_cli.prompts import nli_text, relevance_text

OFFLINE = ("--character", "Mara", "--profile", "offline")


def exchange(query, reply):
    return [{"role": "user", "content": query}, {"role": "assistant", "content": reply}]


TALK = [*exchange("Do you bake?", "I do."), *exchange("Do you have pets?", "Two cats.")]


def test_a_judge_is_shown_the_user_s_last_words_and_the_query():
    asked = query_in_context("What are their names?", TALK)
    assert asked == "Do you have pets? What are their names?"
    assert query_in_context("Hello?", [{"role": "assistant", "content": "Hi, I am Mara."}]) == (
        "Hello?"
    )


def test_a_single_turn_is_shown_to_the_byte():
    query = " Where do you live,\tKoishi? "
    assert query_in_context(query) is query and query_in_context(query, []) is query
    assert relevance_text("K", "S.", query_in_context(query)) == relevance_text("K", "S.", query)
    assert nli_text("K", "S.", query_in_context(query), "r") == nli_text("K", "S.", query, "r")


@pytest.mark.parametrize(
    ("value", "good"),
    [
        ([], True),
        (TALK, True),
        ("text", False),
        ([{"role": "tool", "content": "x"}], False),
        ([{"role": "user", "content": None}], False),
        ([["user", "x"]], False),
    ],
)
def test_what_a_history_is(value, good):
    assert is_history(value) == good


def test_the_oldest_turns_leave_first_and_no_reply_comes_first():
    def compose(history):
        return [{"role": "system", "content": "S"}, *history, {"role": "user", "content": "q"}]

    assert fitting(compose, TALK, len, 6) == compose(TALK)
    assert fitting(compose, TALK, len, 5) == compose(TALK[2:])
    assert fitting(compose, TALK[1:], len, 4) == compose(TALK[2:])
    assert fitting(compose, TALK, len, 3) == compose([])
    assert fitting(compose, TALK, len, 1) == compose([])


def test_earlier_turns_are_seeded_and_about_other_queries():
    exchanges = [(f"q{i}", f"r{i}") for i in range(6)]
    found = {query: earlier_turns(query, exchanges, 3, seed=1) for query, _ in exchanges}
    assert found == {query: earlier_turns(query, exchanges, 3, seed=1) for query, _ in exchanges}
    assert found != {query: earlier_turns(query, exchanges, 3, seed=2) for query, _ in exchanges}
    many = [earlier_turns(f"x{i}", exchanges, 3, seed=1) for i in range(200)]
    assert {len(history) for history in many} == {0, 2, 4, 6}
    for query, history in found.items():
        asked = [turn["content"] for turn in history[::2]]
        assert query not in asked and len(set(asked)) == len(asked)
        assert [turn["content"] for turn in history[1::2]] == [q.replace("q", "r") for q in asked]
    assert earlier_turns("q0", exchanges, 0, seed=1) == []
    assert earlier_turns("q0", exchanges[:1], 3, seed=1) == []


def test_scored_rows_use_their_history(project, apc, models):
    row = {"query": "And cats?", "response": "Two cats.", "statements": ["Mara owns two cats."]}
    rows = [row, row | {"history": TALK}, row | {"query": "Do you have pets? And cats?"}]
    (project / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    code, out, err = apc("score", "rows.jsonl", *OFFLINE)
    assert code == 0, err
    alone, after, joined = (json.loads(line)["apc"] for line in out.splitlines())
    assert after == joined != alone
    pair = models / "evaluator"
    scorer = Scorer.load(relevance=str(pair / "relevance"), nli=str(pair / "nli"), device="cpu")
    [score] = scorer.score("Mara", row["statements"], row["query"], [row["response"]])
    assert alone["score"] == pytest.approx(score.apc, abs=5e-3)
    (project / "rows.jsonl").write_text(json.dumps(row | {"history": "Do you bake?"}) + "\n")
    code, _, err = apc("score", "rows.jsonl", *OFFLINE)
    assert code == 65 and "line 1: `history`" in err and "oldest first" in err


def test_training_data_with_earlier_turns(project, apc):
    many = ("--set", "dpo.history_turns=2", "--set", "warm_up.history_turns=1")
    few_tokens = ("--set", "policy.max_prompt_tokens=190", "--set", "dpo.samples_per_query=3")
    folder = project / "workspace/Mara"
    code, _, err = apc("build-dpo", *OFFLINE, *many)
    assert code == 0, err
    rows = [json.loads(line) for line in (folder / "replies.jsonl").read_text().splitlines()]
    queries = {row["query"] for row in rows}
    lengths = [len(row["prompt"]) for row in rows]
    assert max(lengths) > 2 and set(lengths) <= {2, 4, 6}
    for row in rows:
        roles = [turn["role"] for turn in row["prompt"]]
        assert roles == ["system", *["user", "assistant"] * (len(roles) // 2 - 1), "user"]
        asked = [turn["content"] for turn in row["prompt"] if turn["role"] == "user"]
        assert asked[-1] == row["query"] and set(asked) <= queries
    replies = (folder / "replies.jsonl").read_bytes()
    assert apc("build-dpo", *OFFLINE, *many, "--force")[0] == 0
    assert (folder / "replies.jsonl").read_bytes() == replies
    code, _, err = apc("build-dpo", *OFFLINE, *many, *few_tokens)
    assert code == 0, err
    rows = [json.loads(line) for line in (folder / "replies.jsonl").read_text().splitlines()]
    assert sum(len(row["prompt"]) for row in rows) < sum(lengths)
