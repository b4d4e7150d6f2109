"""Batches: submitted once, found again after a kill, and their gaps told."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from chat_cases import KEY, ask, echoes, items
from chat_cases import model as online
from fake_openai import FakeOpenAI

from apc_cli.errors import ApcError, ConfigError, TryAgainLater
from apc_cli.models.llm import chat_batch_files
from apc_cli.models.llm.chat_costs import Meter, Price
from apc_cli.models.llm.chat_gate import Patience
from apc_cli.models.llm.chat_model import ChatModel
from apc_cli.models.llm.chat_replies import Failure
from apc_cli.models.llm.journal import Journal

QUICK = Patience(first_pause=0.01, longest_pause=0.02, poll=0.02, deadline=5)
CHILD = """
import sys
from pathlib import Path
from apc_cli.models.llm.chat_gate import Patience
from apc_cli.models.llm.chat_model import ChatModel
from apc_cli.models.llm.chat_requests import ChatRequest
from apc_cli.models.llm.journal import Journal
numbers = range(int(sys.argv[3]))
requests = [ChatRequest(({"role": "user", "content": f"item {n}"},), 0.0, 50) for n in numbers]
journal, patience = Journal(Path(sys.argv[2])), Patience(poll=0.02)
chat = ChatModel("m", sys.argv[1], 4, journal, patience=patience, batch=True)
chat.complete_all(requests)
"""


def model(server, journal, **options):
    return ChatModel("m", server.url, 4, journal, patience=QUICK, batch=True, **options)


def leave_an_open_batch(server, journal, tmp_path, count=9):
    """A process sends items as a batch that does not end, and is killed."""
    server.batches.polls, known = 10_000, len(journal.names("batch id "))
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, server.url, str(tmp_path / "journal"), str(count)],
        env=os.environ | {"OPENAI_API_KEY": KEY},
    )
    while len(journal.names("batch id ")) == known:
        time.sleep(0.02)
    child.kill()
    child.wait(10)


def test_a_batch_brings_the_replies_at_half_the_price(journal):
    meter = Meter(Price(10.0, 10.0))
    with FakeOpenAI() as server:
        chat = model(server, journal, meter=meter)
        assert chat.complete_all(items(20) + items(3)) == echoes(20) + echoes(3)
        assert (server.batches.created, server.requests) == (1, 0)
        assert set(server.deliveries.values()) == {1}
        assert model(server, journal).complete_all(items(20)) == echoes(20)
        assert server.batches.created == 1
    tokens = meter.count.input_tokens + meter.count.output_tokens
    assert tokens > 0 and meter.count.dollars == pytest.approx(tokens * 10 / 1e6 / 2)
    assert meter.count.requests == 20


@pytest.mark.parametrize("moment", ["polling", "creating"])
def test_a_killed_run_finds_its_batch_again(tmp_path, moment):
    with FakeOpenAI() as server:
        server.batches.polls = 10_000
        if moment == "creating":
            server.batches.hold_reply = 30.0
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, server.url, str(tmp_path / "j"), "9"],
            env=os.environ | {"OPENAI_API_KEY": KEY},
        )
        while not server.batches.created:
            time.sleep(0.01)
        time.sleep(0.2)
        child.send_signal(signal.SIGKILL)
        child.wait(10)
        server.batches.polls = server.batches.hold_reply = 0
        with Journal(tmp_path / "j") as journal:
            assert bool(journal.names("batch id ")) == (moment == "polling")
            assert model(server, journal).complete_all(items(9)) == echoes(9)
        assert server.batches.created == 1
        assert set(server.deliveries.values()) == {1}


def test_only_what_no_open_batch_holds_is_submitted(tmp_path, journal):
    with FakeOpenAI() as server:
        leave_an_open_batch(server, journal, tmp_path)
        server.batches.polls = 0
        assert model(server, journal).complete_all(items(12)) == echoes(12)
        assert server.batches.created == 2
        assert set(server.deliveries.values()) == {1}


def test_what_an_expired_batch_left_out_fails_for_now(journal):
    with FakeOpenAI() as server:
        server.batches.expires_after = 3
        answers = model(server, journal).complete_all(items(5))
        assert answers[:3] == echoes(3)
        assert all(isinstance(a, Failure) and a.temporary for a in answers[3:])
        server.batches.expires_after = None
        assert model(server, journal).complete_all(items(5)) == echoes(5)
        assert set(server.deliveries.values()) == {1}


def test_parameters_are_renamed_in_a_second_batch(journal):
    with FakeOpenAI() as server:
        server.refuses = {"max_tokens"}
        assert model(server, journal).complete_all(items(4)) == echoes(4)
        assert server.batches.created == 2


@pytest.mark.parametrize(("parameter", "most"), [("max_tokens", 0), ("top_logprobs", 5)])
def test_several_batches_of_one_run_give_a_parameter_up_once(journal, monkeypatch, parameter, most):
    monkeypatch.setattr(chat_batch_files, "_MOST_LINES", 2)
    with FakeOpenAI() as server:
        real = server.answer

        def answer(body):
            if body.get(parameter, 0) > most:
                return 400, {"error": {"message": "no", "param": parameter}}
            return real(body)

        server.answer = answer
        chat = model(server, journal)
        replies = chat.complete_all([replace(item, top_logprobs=20) for item in items(6)])
        assert [reply.text for reply in replies] == [reply.text for reply in echoes(6)]
        assert chat.news_of_terms() == [f"m does not take {parameter} as asked: adapted"]


def test_open_batches_of_earlier_runs_may_hold_what_the_server_refuses(journal, tmp_path):
    with FakeOpenAI() as server:
        server.refuses = {"max_tokens"}
        leave_an_open_batch(server, journal, tmp_path)
        leave_an_open_batch(server, journal, tmp_path, 12)
        assert server.batches.created == 2
        server.batches.polls = 0
        assert model(server, journal).complete_all(items(12)) == echoes(12)


def test_a_refused_batch_is_explained_and_not_waited_for_again(journal):
    with FakeOpenAI() as server:
        server.batches.refuses = "this model takes no batches"
        with pytest.raises(ApcError, match="this model takes no batches") as caught:
            model(server, journal).complete_all(items(4))
        assert "teacher.batch" in caught.value.hint
        server.batches.refuses = None
        assert model(server, journal).complete_all(items(4)) == echoes(4)


def test_limits_hold_for_batches(journal):
    with FakeOpenAI() as server:
        meter = Meter(max_requests=5)
        with pytest.raises(TryAgainLater, match="--max-requests 5"):
            model(server, journal, meter=meter).complete_all(items(8))
        assert sum(server.deliveries.values()) == 5
        assert model(server, journal).complete_all(items(8)) == echoes(8)
        assert set(server.deliveries.values()) == {1}


def test_batches_of_another_server_are_not_looked_for_here(journal):
    with FakeOpenAI() as one, FakeOpenAI() as other:
        one.batches.expires_after = 0
        impatient = Patience(first_pause=0.01, failures_in_a_row=2, poll=0.01)
        one.batches.get = lambda path: b"{}" if path.endswith("batches") else None
        with pytest.raises(ApcError):
            ChatModel("m", one.url, 4, journal, patience=impatient, batch=True).complete_all(
                items(3)
            )
        assert model(other, journal).complete_all(items(3)) == echoes(3)
        assert other.batches.created == 1


def test_a_batch_that_is_gone_is_submitted_anew_by_the_next_run(journal):
    with FakeOpenAI() as server:
        server.batches.polls = 10_000
        real, server.batches.get = server.batches.get, lambda path: real(path.split("_")[0])
        for _ in range(2):
            with pytest.raises(ApcError, match="does not know this batch"):
                model(server, journal).complete_all(items(3))
        server.batches.get, server.batches.polls = real, 0
        assert model(server, journal).complete_all(items(3)) == echoes(3)


def test_a_server_without_batches_is_named(journal):
    with FakeOpenAI() as server:
        server.batches.post = lambda path, body: None
        server.batches.get = lambda path: None
        with pytest.raises(ApcError, match="no batches at all") as caught:
            model(server, journal).complete_all([ask("x")])
        assert "teacher.batch: false" in caught.value.hint
        assert online(server, journal).complete_all([ask("item 0")]) == echoes(1)


def test_a_server_with_other_things_at_the_address_of_batches_is_named(journal):
    with FakeOpenAI() as server:
        server.batches.get = lambda path: b"<html>welcome</html>"
        with pytest.raises(ApcError, match="does not answer as the batch API"):
            model(server, journal).complete_all(items(1))
        assert online(server, journal).complete_all(items(1)) == echoes(1)


def test_what_a_batch_holds_is_not_asked_one_by_one(tmp_path, journal):
    with FakeOpenAI() as server:
        leave_an_open_batch(server, journal, tmp_path)
        with pytest.raises(ConfigError, match="holds 9 of these replies") as caught:
            online(server, journal).complete_all(items(12))
        assert "teacher.batch: true" in caught.value.hint and server.requests == 0
        assert online(server, journal).complete_all([ask("item 11")]) == [echoes(12)[11]]
        server.batches.polls = 0
        model(server, journal).complete_all(items(9))
        assert online(server, journal).complete_all(items(12)) == echoes(12)
        assert set(server.deliveries.values()) == {1}


def test_a_batch_that_came_in_part_is_read_again(journal):
    with FakeOpenAI() as server:
        real = server.batches.get

        def torn(path):
            found = real(path)
            return found[: len(found) // 2] if isinstance(found, bytes) else found

        server.batches.get = torn
        with pytest.raises(TryAgainLater, match="of the 6 replies of batch"):
            model(server, journal).complete_all(items(6))
        server.batches.get = real
        assert model(server, journal).complete_all(items(6)) == echoes(6)
        assert server.batches.created == 1 and set(server.deliveries.values()) == {1}


@pytest.mark.parametrize(
    ("status", "code"),
    [(401, "x"), (402, "x"), (403, "x"), (404, "x"), (429, "insufficient_quota")],
)
def test_a_refused_line_of_a_batch_leaves_the_others_their_replies(journal, status, code):
    with FakeOpenAI() as server:
        real = server.answer

        def answer(body):
            if body["messages"][0]["content"] == "item 1":
                return status, {"error": {"message": "no", "code": code}}
            return real(body)

        server.answer = answer
        answers = model(server, journal).complete_all(items(3))
        assert answers[::2] == echoes(3)[::2]
        assert isinstance(answers[1], Failure) and answers[1].temporary
        server.answer = real
        assert model(server, journal).complete_all(items(3)) == echoes(3)
        assert server.batches.created == 2 and set(server.deliveries.values()) == {1}
