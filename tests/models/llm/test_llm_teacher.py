import logging
import re

import pytest
from chat_cases import KEY
from fake_openai import FakeOpenAI
from quiet import Quiet

from apc_cli.errors import ConfigError
from apc_cli.models.llm.chat_costs import Meter
from apc_cli.models.llm.chat_gate import Patience
from apc_cli.models.llm.chat_model import ChatModel
from apc_cli.models.llm.chat_replies import Completion, Failure
from apc_cli.models.llm.journal import Journal
from apc_cli.models.llm.llm_asking import UNPARSEABLE, Asker
from apc_cli.models.llm.llm_parsers import parse_statements
from apc_cli.models.llm.llm_teacher import LlmTeacher
from apc_cli.models.teacher import Teacher
from apc_cli.records import NLI_LABELS, Judgement, NliItem, RelevanceItem

FACT = "Alice lives in a lighthouse."


class ScriptedChat:
    """Gives the scripted replies and keeps what it was asked."""

    def __init__(self, *replies):
        self.replies = [Completion(r) if isinstance(r, str) else r for r in replies]
        self.requests = []
        self.meter = Meter()

    def news_of_terms(self):
        return []

    def complete_all(self, requests, progress=None):
        self.requests += requests
        return list(self.replies) or [Completion("-")] * len(requests)


def test_failures_and_unreadable_replies_are_none_and_told():
    chat = ScriptedChat("neutral", Failure("refused"), "who knows", Failure("refused"))
    progress = Quiet()
    asker = Asker(chat, "en", progress)
    item = NliItem(FACT, "Where?", "Here.", FACT, "entailed")
    neutral = Judgement((0.0, 1.0, 0.0), "answer")
    assert LlmTeacher(asker, "en").judge_nli("Alice", [item] * 4) == [neutral, None, None, None]
    assert [f.reason for f in asker.failures] == ["refused", UNPARSEABLE, "refused"]
    assert progress.said == [f"4 asked, without an answer: 2 refused, 1 {UNPARSEABLE}"]


def test_requests_follow_the_paper():
    chat = ScriptedChat()
    teacher = LlmTeacher(Asker(chat, "en"), "en")
    teacher.extract_statements("Alice", ["She has $5 {and} $paragraph."])
    teacher.propose_queries("Alice", [FACT], 3)
    teacher.judge_relevance("Alice", [RelevanceItem(FACT, "Hello?", FACT)])
    teacher.write_replies("Alice", [(FACT, "Hello?")])
    teacher.judge_nli("Alice", [NliItem(FACT, "Hello?", "Hi!", FACT, "neutral")])
    teacher.write_answers("Alice", [("Hello?", [FACT, "Alice hums."])])
    assert [request.temperature for request in chat.requests] == [0, 1, 0, 1, 0, 1]
    roles = [[turn["role"] for turn in request.messages] for request in chat.requests]
    assert roles == [["user", "assistant", "user"]] + [["user"]] * 5
    extraction, queries, _, replies, _, answer = [r.messages[-1]["content"] for r in chat.requests]
    assert "She has $5 {and} $paragraph." in extraction
    assert "Write 3 things" in queries
    schemas = [request.schema is not None for request in chat.requests]
    assert schemas == [True, True, False, True, False, False]
    assert list(chat.requests[3].schema["properties"]) == [
        "shared",
        "entailed",
        "neutral",
        "contradicted",
    ]
    assert f"- {FACT}\n- Alice hums." in answer
    assert replies.index('"shared"') < replies.index('"entailed"')
    for request in chat.requests[1:]:
        assert FACT in request.messages[-1]["content"]


@pytest.mark.parametrize(
    ("language", "name"), [("en", "Mirela Tashk"), ("ja", "瀬戸原みぎわ"), ("zh", "陆汀澜")]
)
def test_the_worked_example_is_one_that_its_parser_reads(language, name):
    chat = ScriptedChat()
    LlmTeacher(Asker(chat, language), language).extract_statements("Alice", ["Text."])
    question, example, _ = chat.requests[0].messages
    statements = parse_statements(example["content"], name)
    assert len(statements) == len(example["content"].splitlines()) - 2 == 8
    assert all(name in statement for statement in statements)
    assert name in question["content"]
    wrapped = re.findall(r"[\u3041-\u9fff]\n *[\u3041-\u9fff]", question["content"])
    assert wrapped == []  # a line break in the file is none in the sentence


def test_a_long_paragraph_is_asked_about_in_parts_and_statements_are_single_sentences():
    chat = ScriptedChat()
    long = "Alice Ash keeps a red boat in the harbour of Oster. " * 200
    teacher = LlmTeacher(Asker(chat, "en"), "en")
    chat.complete_all = lambda requests, progress=None: [
        Completion("- Alice is tall. Alice has a cat.\n- Alice sings. She is shy.")
        if n % 2
        else Failure("refused")
        for n, _ in enumerate(requests)
    ]
    several, none = teacher.extract_statements("Alice", [long, "Short."])
    assert several[:3] == ["Alice is tall.", "Alice has a cat.", "Alice sings. She is shy."]
    assert none is None


def test_a_language_without_prompts_is_refused():
    with pytest.raises(ConfigError, match="no prompts .* 'fr'"):
        Asker(ScriptedChat(), "fr")


def test_a_whole_lesson_and_its_repetition_at_no_cost(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    patience = Patience(first_pause=0.01)
    with FakeOpenAI(plan=["500", None, "html"]) as server, Journal(tmp_path / "j") as journal:

        def lesson():
            chat = ChatModel("m", server.url, 8, journal, patience=patience)
            return run_lesson(LlmTeacher(Asker(chat, "en"), "en"))

        first = lesson()
        asked = server.requests
        assert lesson() == first
        assert server.requests == asked
    assert KEY not in caplog.text


def run_lesson(teacher: Teacher):
    """Every kind of question once, each built on the answers before it."""
    texts = ["Alice Ash keeps a red boat. She was born in Oster.", "Alice Ash dislikes storms."]
    lists = teacher.extract_statements("Alice Ash", texts)
    assert [len(found) for found in lists] == [2, 1]
    statements = [statement for found in lists for statement in found]
    queries = teacher.propose_queries("Alice Ash", statements, 3)
    assert [len(found) for found in queries] == [3, 3, 3]
    own = [RelevanceItem(s, q[0], s) for s, q in zip(statements, queries, strict=True)]
    other = RelevanceItem(statements[2], queries[0][0].replace("alice", ""), statements[0])
    relevance = teacher.judge_relevance("Alice Ash", own)
    assert {j.source for j in relevance} == {"logprobs"}
    assert all(j.probabilities[1] > 0.95 for j in relevance)
    replies = teacher.write_replies("Alice Ash", [(i.statement, i.query) for i in own])
    items = [
        NliItem(item.statement, item.query, written[label], item.statement, label)
        for item, written in zip(own, replies, strict=True)
        for label in NLI_LABELS
    ]
    verdicts = teacher.judge_nli("Alice Ash", items)
    likeliest = [j.probabilities.index(max(j.probabilities)) for j in verdicts]
    assert likeliest == [0, 1, 2] * 3
    answers = teacher.write_answers("Alice Ash", [(queries[0][0], statements[:2])])
    assert answers[0].startswith("Well, ") and all(s in answers[0] for s in statements[:2])
    other_relevance = teacher.judge_relevance("Alice Ash", [other])
    return lists, queries, relevance, other_relevance, replies, answers
