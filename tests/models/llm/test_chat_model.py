import itertools
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from chat_cases import KEY, ask, echoes, items, model
from fake_openai import FakeOpenAI, digest

from apc_cli.models.llm.chat_gate import Patience
from apc_cli.models.llm.chat_outcomes import retry_after
from apc_cli.models.llm.chat_replies import Completion, Failure, read_completion
from apc_cli.models.llm.chat_requests import canonical_json, journal_key
from apc_cli.models.llm.journal import Journal

CHILD = """
import sys
from pathlib import Path
from apc_cli.models.llm.chat_model import ChatModel
from apc_cli.models.llm.chat_requests import ChatRequest
from apc_cli.models.llm.journal import Journal
texts = [f"item {number}" for number in range(int(sys.argv[3]))]
requests = [ChatRequest(({"role": "user", "content": text},), 0.0, 50) for text in texts]
try:
    ChatModel("m", sys.argv[1], 4, Journal(Path(sys.argv[2]))).complete_all(requests)
except KeyboardInterrupt:
    sys.exit(130)
"""


def test_replies_come_in_order_and_a_second_run_asks_nothing(journal):
    with FakeOpenAI(delay=0.005) as server:
        progress = []
        chat = model(server, journal)
        assert chat.complete_all(items(20), lambda *state: progress.append(state)) == echoes(20)
        assert progress == [(done, 20) for done in range(1, 21)]
        assert server.requests == 20
        assert model(server, journal).complete_all(items(20)) == echoes(20)
        assert server.requests == 20


def test_only_new_requests_are_sent_and_equal_ones_once(journal):
    with FakeOpenAI() as server:
        chat = model(server, journal)
        chat.complete_all(items(3))
        assert chat.complete_all(items(5) + items(5)) == echoes(5) * 2
        chat.complete_all([ask("item 0", sample_index=1)])
        assert server.requests == 6
        assert chat.complete_all([]) == []


def test_the_key_depends_on_what_is_asked_and_on_nothing_else():
    def key(request, name="m"):
        return journal_key(canonical_json(name, request))

    base = key(ask("caf\u00e9"))
    assert base == key(ask("cafe\u0301")) == key(ask("caf\u00e9", temperature=0))
    others = [
        key(ask("cafe")),
        key(ask("caf\u00e9", temperature=1.0)),
        key(ask("caf\u00e9", max_tokens=51)),
        key(ask("caf\u00e9", sample_index=1)),
        key(ask("caf\u00e9"), "other"),
    ]
    assert len({base, *others}) == 6


@pytest.mark.parametrize(
    "fault",
    ["500", "503", "408", "409", "truncated", "empty", "html", "error200", "nochoices", "null"]
    + ["reset", "limited"],
)
def test_a_passing_fault_is_survived(journal, fault):
    with FakeOpenAI(plan=[fault, fault, None, fault]) as server:
        assert model(server, journal, concurrency=2).complete_all(items(4)) == echoes(4)
        assert server.requests == 7
        assert set(server.deliveries.values()) == {1}


@pytest.mark.parametrize("fault", ["hang", "drip"])
def test_an_attempt_has_a_deadline_in_all(journal, fault):
    patience = Patience(first_pause=0.01, deadline=0.4)
    with FakeOpenAI(plan=[fault]) as server:
        started = time.monotonic()
        assert model(server, journal, patience).complete_all(items(1)) == echoes(1)
        assert time.monotonic() - started < 3
        assert server.requests == 2


def test_garbage_is_given_up_after_three_replies_and_not_stored(journal):
    with FakeOpenAI(plan=["html"] * 3) as server:
        (failure,) = model(server, journal).complete_all(items(1))
        reason = "the server's reply is not a chat completion, after 3 attempts"
        assert failure == Failure(reason, temporary=True)
        assert model(server, journal).complete_all(items(1)) == echoes(1)


def test_retry_after_is_a_pause_of_all_workers(journal):
    with FakeOpenAI(plan=[None, "429:0.6"], delay=0.02) as server:
        assert model(server, journal, concurrency=1).complete_all(items(4)) == echoes(4)
        gaps = [b - a for a, b in itertools.pairwise(server.arrivals)]
        assert max(gaps) >= 0.6
        assert server.requests == 5
    with FakeOpenAI(plan=["429:0.6", "429:0.6"], delay=0.02) as server:
        model(server, journal, concurrency=2).complete_all([ask(f"new {n}") for n in range(6)])
        assert server.requests == 8
        assert server.arrivals[2] - server.arrivals[1] >= 0.6


def test_retry_after_is_read_in_every_form():
    assert retry_after({"retry-after": "2"}) == 2.0
    assert retry_after({"retry-after-ms": "1500", "retry-after": "9"}) == 1.5
    assert retry_after({"retry-after": "Fri, 01 Jan 1999 00:00:00 GMT"}) == 0.0
    for odd in ("nan", "-inf", "-3", "soon", ""):
        assert retry_after({"retry-after": odd}) is None
    assert retry_after({}) is None


def test_a_refused_item_fails_alone_after_one_attempt(journal):
    with FakeOpenAI(plan=[None, "400", "422", None]) as server:
        answers = model(server, journal, concurrency=1).complete_all(items(4))
        assert server.requests == 4
    assert answers[::3] == [echoes(4)[0], echoes(4)[3]]
    for status, answer in zip((400, 422), answers[1:3], strict=True):
        assert f"HTTP {status}" in answer.reason
        assert "planned failure" in answer.reason
        assert "\x1b" not in answer.reason and KEY not in answer.reason


@pytest.mark.parametrize("fault", ["length", "content_filter", "refusal"])
def test_a_withheld_reply_is_a_failure_and_paid_once(journal, fault):
    with FakeOpenAI(plan=[fault]) as server:
        (first,) = model(server, journal).complete_all(items(1))
        (second,) = model(server, journal).complete_all(items(1))
        assert server.requests == 1
    assert isinstance(first, Failure) and first == second


@pytest.mark.parametrize(
    ("refused", "sent"),
    [
        ({"max_tokens"}, {"max_completion_tokens", "temperature"}),
        ({"max_tokens", "max_completion_tokens"}, {"temperature"}),
        ({"max_tokens", "temperature"}, {"max_completion_tokens"}),
    ],
)
def test_unsupported_parameters_are_renamed_or_left_out(journal, refused, sent):
    with FakeOpenAI(delay=0.01) as server:
        server.refuses = refused
        assert model(server, journal).complete_all(items(12)) == echoes(12)
        assert set(server.bodies[-1]) == {"model", "messages"} | sent
        assert server.requests <= 12 + 4 * len(refused)
        assert set(server.deliveries.values()) == {1}


def test_two_models_share_a_journal(tmp_path):
    answers = {}

    def run(name, server):
        with Journal(tmp_path / "journal") as journal:
            answers[name] = model(server, journal).complete_all(items(40))

    with FakeOpenAI(delay=0.01) as server:
        threads = [threading.Thread(target=run, args=(name, server)) for name in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == {"a": echoes(40), "b": echoes(40)}
        assert 40 <= server.requests <= 80
        with Journal(tmp_path / "journal") as journal:
            before = server.requests
            assert model(server, journal).complete_all(items(40)) == echoes(40)
            assert server.requests == before


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_goes_on_where_it_was(tmp_path, blow):
    with FakeOpenAI(delay=0.02) as server:
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, server.url, str(tmp_path / "j"), "60"],
            env=os.environ | {"OPENAI_API_KEY": KEY},
        )
        while server.requests < 20 and child.poll() is None:
            time.sleep(0.005)
        child.send_signal(blow)
        child.wait(20)
        assert child.returncode == (-9 if blow == signal.SIGKILL else 130)
        with Journal(tmp_path / "j") as journal:
            assert model(server, journal).complete_all(items(60)) == echoes(60)
        delivered = server.deliveries
        assert len(delivered) == 60
        assert digest(list(ask("item 0").messages)) in delivered
        repaid = sum(delivered.values()) - 60
        assert repaid <= (4 if blow == signal.SIGKILL else 0)


def test_foreign_json_is_never_taken_for_a_completion():
    for raw in ("[]", "null", "3", '{"choices": null}', '{"choices": [3]}', "[" * 100_000):
        assert read_completion(raw) is None
    odd = '{"choices": [{"message": {"content": "a\\ud83d"}}]}'
    assert read_completion(odd) == Completion("a?")
