"""Runs that stop early, and those that never start."""

import itertools
import logging
import time

import pytest
from chat_cases import HASTY, KEY, echoes, items, model
from fake_openai import FakeOpenAI

from apc_cli.errors import ApcError, ConfigError, TryAgainLater
from apc_cli.models.llm.chat_gate import Gate, Patience
from apc_cli.models.llm.chat_model import ChatModel
from apc_cli.models.llm.chat_replies import Failure


@pytest.mark.parametrize("pause", ["300", "inf", "1e308", "Fri, 01 Jan 2100 00:00:00 GMT"])
def test_a_limit_beyond_patience_ends_the_run(journal, pause):
    patience = Patience(first_pause=0.01, longest_wait=0.3)
    with FakeOpenAI(plan=itertools.repeat(f"429:{pause}")) as server:
        with pytest.raises(TryAgainLater, match="limits requests (until|for more than a day)"):
            model(server, journal, patience).complete_all(items(8))


def test_quota_ends_the_run_and_keeps_what_arrived(journal):
    with FakeOpenAI(plan=[None] * 6 + ["quota"] * 100) as server:
        with pytest.raises(TryAgainLater, match="out of quota"):
            model(server, journal).complete_all(items(50))
        assert server.requests <= 6 + 4
    with FakeOpenAI() as server:
        assert model(server, journal).complete_all(items(50)) == echoes(50)
        assert server.requests == 44


@pytest.mark.parametrize("fault", ["401echo", "403"])
def test_a_refused_key_ends_the_run_without_being_shown(journal, fault):
    with FakeOpenAI(plan=itertools.repeat(fault)) as server:
        with pytest.raises(ConfigError, match="OPENAI_API_KEY") as caught:
            model(server, journal).complete_all(items(50))
        assert server.requests <= 4
    assert KEY not in str(caught.value) + str(caught.value.hint)
    assert caught.value.__cause__ is caught.value.__context__ is None


def test_replies_under_way_are_stored_when_the_run_ends(journal):
    with FakeOpenAI(plan=["401echo"], delay=0.1) as server:
        with pytest.raises(ConfigError):
            model(server, journal).complete_all(items(50))
        sent, delivered = server.requests, sum(server.deliveries.values())
    assert sent == delivered + 1
    with FakeOpenAI() as server:
        model(server, journal).complete_all(items(50))
        assert server.requests == 50 - delivered


@pytest.mark.parametrize(("concurrency", "most"), [(1, 21), (4, 1 + 3 + 20 + 3)])
def test_a_server_that_is_down_ends_the_run(journal, concurrency, most):
    with FakeOpenAI(plan=[None, *itertools.repeat("500", 200)]) as server:
        with pytest.raises(TryAgainLater, match=" 20 times in a row.*HTTP 500") as caught:
            model(server, journal, concurrency=concurrency).complete_all(items(50))
        assert 21 <= server.requests <= most
    assert caught.value.hint.startswith("1 of 50 replies are stored")


def test_replies_under_way_get_their_whole_time_unless_the_run_is_cancelled(journal):
    patience = Patience(drain=0.05, deadline=5.0)
    with FakeOpenAI(plan=["401echo"]) as server:
        real = server.answer
        server.answer = lambda body: (time.sleep(0.5), real(body))[1]
        with pytest.raises(ConfigError):
            model(server, journal, patience).complete_all(items(50))
    assert len(journal) == 3


def test_one_request_that_is_forbidden_is_not_the_key(journal):
    for plan in ([None, "403", None], ["403"]):  # the second run knows the stored replies
        with FakeOpenAI(plan=plan) as server:
            answers = model(server, journal, concurrency=1).complete_all(items(3))
        assert answers[::2] == echoes(3)[::2]
        assert answers[1] == Failure("the server refused the request (HTTP 403)")


def test_a_server_is_down_after_some_time_and_more_failures_than_workers():
    gate = Gate(Patience(silence=0.0), "it", workers=10)
    for _ in range(29):
        gate.failed("HTTP 500")
    with pytest.raises(TryAgainLater, match="failed 30 times in a row"):
        gate.failed("HTTP 500")
    patient = Gate(Patience(silence=0.2), "it")
    for _ in range(100):
        patient.failed("HTTP 500")
    time.sleep(0.15)
    patient.succeeded()
    time.sleep(0.15)
    for _ in range(100):
        patient.failed("HTTP 500")
    time.sleep(0.1)
    with pytest.raises(TryAgainLater):
        patient.failed("HTTP 500")


def test_only_failures_in_a_row_end_the_run(journal):
    with FakeOpenAI(plan=["500", None] * 25) as server:
        assert model(server, journal, concurrency=1).complete_all(items(25)) == echoes(25)
        assert server.requests == 50


def test_nobody_listening_ends_the_run(journal):
    chat = ChatModel("m", "http://127.0.0.1:9/v1", 8, journal, patience=HASTY)
    with pytest.raises(TryAgainLater, match="connection"):
        chat.complete_all(items(10))


@pytest.mark.parametrize("fault", ["404", "redirect"])
def test_a_wrong_address_or_model_is_a_configuration_error(journal, fault):
    with FakeOpenAI(plan=itertools.repeat(fault)) as server:
        with pytest.raises(ConfigError, match="does not know the model|redirects"):
            model(server, journal).complete_all(items(9))


def test_the_secret_appears_nowhere(journal, tmp_path, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    plan = ["400", "500", "echo200", "html", "401echo"]
    with FakeOpenAI(plan=plan) as server:
        chat = model(server, journal, concurrency=1)
        with pytest.raises(ConfigError) as caught:
            chat.complete_all(items(4))
    shown = [str(caught.value), str(caught.value.hint), repr(vars(chat)), *capfd.readouterr()]
    logged = [f"{record.getMessage()} {record.args}" for record in caplog.records]
    assert KEY not in "\n".join(shown + logged)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files and not any(KEY.encode() in path.read_bytes() for path in files)
    stored = [journal.get(key) for key in journal.names("")]
    assert ["[OPENAI_API_KEY]" in reply for reply in stored] == [True, False]


def test_a_missing_key_is_explained(journal, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "  ")
    with pytest.raises(ConfigError, match="^OPENAI_API_KEY is not set$") as caught:
        ChatModel("m", None, 4, journal)
    assert "--profile offline" in caught.value.hint
    with FakeOpenAI() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        assert ChatModel("m", None, 4, journal).complete_all(items(2)) == echoes(2)


@pytest.mark.parametrize("url", ["ftp://x/v1", "localhost:8000", "http://[::1", "https://"])
def test_an_address_that_is_none_is_refused(journal, url):
    with pytest.raises(ConfigError, match="base URL"):
        ChatModel("m", url, 4, journal)


def test_the_key_does_not_travel_unencrypted(journal):
    with pytest.raises(ConfigError, match="unencrypted") as caught:
        ChatModel("m", "http://user:password@example.com/v1", 4, journal)
    assert "password" not in str(caught.value)
    ChatModel("m", "http://example.com/v1", 4, journal, insecure=True)


def test_a_journal_that_fails_stops_the_spending(journal, monkeypatch):
    def full(*_):
        raise ApcError("the journal cannot be written: disk full")

    monkeypatch.setattr(journal, "put", full)
    with FakeOpenAI(delay=0.01) as server:
        with pytest.raises(ApcError, match="disk full"):
            model(server, journal).complete_all(items(50))
        assert server.requests <= 4
