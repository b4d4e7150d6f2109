"""The role-play model behind a server: n choices, what a server may refuse, what needs weights."""

import io
import sys

import chat_cases  # noqa: F401 - makes the server of the tests importable
import pytest
from fake_openai import FakeOpenAI

from apc_cli.config import Policy
from apc_cli.errors import ApcError, ConfigError, TryAgainLater
from apc_cli.models.llm.chat_requests import ChatRequest, canonical_json
from apc_cli.models.llm.served_player import ServedPlayer
from apc_cli.models.playing.sampling import Sampling

TALKS = [[{"role": "user", "content": text}] for text in ("What do you bake?", "Who are you?")]
SAMPLING = Sampling(max_new_tokens=20, temperature=0.8, top_p=0.9, min_p=0.1, seed=7)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("APC_POLICY_API_KEY", "policy-key-0123456789")
    with FakeOpenAI() as opened:
        yield opened


def player(server, journal, said=None):
    policy = Policy(backend="openai", base_url=server.url, model="mara")
    return ServedPlayer(policy, journal, (said if said is not None else []).append)


def test_one_request_brings_all_replies_where_the_server_gives_several(server, journal):
    server.most_choices = 8
    found = player(server, journal).sample(TALKS, 3, SAMPLING)
    assert found[0] == [f"echo: What do you bake? ({k})" for k in range(3)]
    assert server.requests == 2 and {body["n"] for body in server.bodies} == {3}
    body = server.bodies[0]
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("mara", 0.8, 20)
    assert (body["top_p"], body["min_p"]) == (0.9, 0.1) and "repetition_penalty" not in body
    assert sorted(body["seed"] for body in server.bodies) == [7, 8]
    assert player(server, journal).sample(TALKS, 3, SAMPLING) == found
    assert server.requests == 2, "the second time all came from the journal"


def test_what_is_missing_is_asked_for_one_by_one(server, journal):
    server.most_choices = 2
    found = player(server, journal).sample(TALKS, 4, SAMPLING)
    assert [len(replies) for replies in found] == [4, 4]
    alone = [body for body in server.bodies if "n" not in body]
    assert len(alone) == 4 and len({body["seed"] for body in alone}) == 4


def test_neither_the_batch_nor_the_order_decides_a_request(server, journal):
    server.most_choices = 8
    both = player(server, journal).sample(TALKS, 2, SAMPLING)
    later = Sampling(20, 0.8, 0.9, 0.1, seed=8)
    assert player(server, journal).sample(TALKS[1:], 2, later) == both[1:]
    assert server.requests == 2


@pytest.mark.parametrize("refused", ["n", "seed", "min_p", "top_p"])
def test_a_parameter_that_is_refused_is_left_out_and_told(server, journal, refused):
    server.refuses, said = {refused}, []
    [replies] = player(server, journal, said).sample(TALKS[:1], 2, SAMPLING)
    assert replies == ["echo: What do you bake?"] * 2
    assert any(refused in line.split() for line in said)


def test_a_reply_that_was_cut_off_is_kept_and_known(server, journal):
    with FakeOpenAI(plan=["length"]) as cutting:
        served = player(cutting, journal)
        [[cut], [whole]] = (served.sample([talk], 1, SAMPLING)[0] for talk in TALKS)
        assert cut and served.fills(cut, 20) and not served.fills(whole, 20)
        assert cutting.requests == 2


def test_a_server_that_is_down_ends_the_run_and_nothing_is_lost(server, journal):
    with FakeOpenAI(plan=[None, *["quota"] * 9]) as failing:
        policy = Policy(backend="openai", base_url=failing.url, model="mara", concurrency=1)
        with pytest.raises(TryAgainLater, match="quota"):
            ServedPlayer(policy, journal, [].append).sample(TALKS, 1, SAMPLING)
    assert len(journal) == 1


def test_a_conversation_that_is_refused_is_an_error(server, journal):
    with FakeOpenAI(plan=["413"] * 9) as refusing, pytest.raises(ApcError, match="413"):
        player(refusing, journal).sample(TALKS, 1, SAMPLING)


def test_the_teachers_key_does_not_go_to_the_policy_s_server(server, journal, monkeypatch):
    monkeypatch.delenv("APC_POLICY_API_KEY")
    policy = Policy(backend="openai", base_url="https://policy.example/v1", model="mara")
    with pytest.raises(ConfigError, match="APC_POLICY_API_KEY"):
        ServedPlayer(policy, journal, [].append)


def test_likelihoods_need_weights(server, journal):
    with pytest.raises(ConfigError, match="weights"):
        player(server, journal).negative_log_likelihood(TALKS, ["a", "b"])


def test_requests_that_are_in_journals_keep_their_names():
    asked = ChatRequest(({"role": "user", "content": "a"},), 0.0, 5)
    assert canonical_json("m", asked) == (
        '{"max_tokens":5,"messages":[{"content":"a","role":"user"}],"model":"m",'
        '"sample_index":0,"temperature":0.0}'
    )


def test_pairs_table_and_chat_come_from_the_server(project, apc, server, monkeypatch):
    server.most_choices = 16
    settings = {"policy.backend": "openai", "policy.base_url": server.url, "warm_up.epochs": 0}
    served = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    mara = ("--character", "Mara", "--profile", "offline")

    def refused(command, *more):
        code, _, err = apc(command, *mara, *served, *more)
        assert code == 2 and "Traceback" not in err
        return err

    assert "dpo.max_nll needs the model's weights" in refused("build-dpo")
    assert "set dpo.rounds: 1" in refused("build-dpo", "--set", "dpo.rounds=2")
    served += ["--set", "dpo.max_nll=null"]
    assert "needs the model's weights" in refused("train")
    assert "--untrained" in refused("evaluate")
    code, _, err = apc("build-dpo", *mara, *served)
    assert code == 0, err
    assert len(server.bodies) == 4 and all(body["n"] == 4 for body in server.bodies)
    code, out, err = apc("evaluate", *mara, *served, "--untrained", "--methods", "vanilla,rag")
    assert code == 0 and "│ 2.42 │   – │" in err
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"Do you bake?\n")))
    code, out, err = apc("chat", *mara, *served)
    assert code == 0 and "Mara: echo: Do you bake?" in out, err
    assert (project / "workspace/Mara/policy.journal").exists()
    weighed = ("--set", "warm_up.epochs=0", "--set", "dpo.max_nll=null")
    code, _, err = apc("train", *mara, *weighed, "--dry-run")
    assert code == 0 and "build-dpo" not in err, "the pairs are as good for training here"
