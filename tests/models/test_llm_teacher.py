import logging

import pytest
from chat_cases import KEY
from fake_openai import FakeOpenAI
from quiet import Quiet

from apc_cli.errors import ConfigError
from apc_cli.models.chat_gate import Patience
from apc_cli.models.chat_model import ChatModel
from apc_cli.models.chat_outcomes import Failure
from apc_cli.models.journal import Journal
from apc_cli.models.llm_parsers import (
    parse_answer,
    parse_nli,
    parse_queries,
    parse_relevance,
    parse_replies,
    parse_statements,
)
from apc_cli.models.llm_teacher import UNPARSEABLE, LlmTeacher
from apc_cli.models.teacher import Teacher
from apc_cli.records import NLI_LABELS, NliItem, RelevanceItem

FACT = "Alice lives in a lighthouse."
THREE = {"entailed": "Yes, I do.", "neutral": "Who asks?", "contradicted": "No, I do not."}


class ScriptedChat:
    """Gives the scripted replies and keeps what it was asked."""

    def __init__(self, *replies):
        self.replies = replies
        self.requests = []

    def complete_all(self, requests, progress=None):
        self.requests += requests
        return list(self.replies)


@pytest.mark.parametrize(
    "text",
    [
        "- Alice is tall.\n- Alice has a cat.",
        "1. Alice is tall.\n2) Alice has a cat.",
        "(1) Alice is tall.\n\n(2) Alice has a cat.",
        "Here are the facts about Alice:\n\n* **Alice is tall.**\n* Alice has\n  a cat.\n\nDone!",
        "Sure! Here they are:\nAlice is tall.\nAlice has a cat.\n",
        '```json\n["Alice is tall.", "Alice has a cat.",]\n```',
        'The list:\n{"statements": [{"text": "Alice is tall."}, {"text": "Alice has a cat."}]}',
        "• “Alice is tall.”\n• 「Alice has a cat.」\n• She is kind.\n• Alice is tall.",
        "<think>- Alice is short.\nHm.</think>\n- Alice is tall.\n- Alice has a cat.",
        "pondering aloud</think>- Alice is tall.\n- Alice has a cat.",
    ],
)
def test_statements_are_read_in_every_dress(text):
    assert parse_statements(text, "Alice") == ["Alice is tall.", "Alice has a cat."]


def test_statements_keep_what_belongs_to_them():
    text = "- Alice was born in 1815.[1]\n- Alice owns 3.5 boats - all red."
    assert parse_statements(text, "Alice Ash") == [
        "Alice was born in 1815.[1]",
        "Alice owns 3.5 boats - all red.",
    ]
    assert parse_statements("- Malice is bad.\n- ed Alice won.", "Ed") == ["ed Alice won."]


def test_a_paragraph_without_statements_is_an_answer_but_no_list_is_none():
    for text in ("none", "None.", "[]", "- none", "No statements about Alice."):
        assert parse_statements(text, "Alice") == []
    for text in ("", "  ", "I have read it.", '{"error": 1}', "<think>Alice is tall. Alice"):
        assert parse_statements(text, "Alice") is None


@pytest.mark.parametrize(
    "text",
    ["I'm sorry, but I can't help with that, Alice.", "I cannot assist with this request."]
    + ["As an AI language model, I won't write about Alice.", "“Sorry, I can’t do that.”"],
)
def test_a_refusal_is_no_data(text):
    assert parse_statements(text, "Alice") is None
    assert parse_queries(text, 3) is None
    assert parse_replies(text) is None


def test_queries_are_unquoted_distinct_and_no_more_than_asked_for():
    text = 'Here you go:\n1. "Where do you live?"\n2. Where do you live?\n3. Your home?\n4. Sea?'
    assert parse_queries(text, 2) == ["Where do you live?", "Your home?"]
    assert parse_queries("- I can't help wondering: do you write?", 3) is not None
    assert parse_queries("```\n```", 3) is None


@pytest.mark.parametrize("text", ["yes", "Yes.", " **YES**", '{"answer": "yes"}', "Answer: yes"])
def test_yes_is_read(text):
    assert parse_relevance(text) == "yes"


def test_no_is_read_and_the_rest_is_not():
    assert parse_relevance("No, although yes would be kind.") == "no"
    for text in ("", "maybe", "yes or no", "yes/no", "It is not a yes", "Nobody knows"):
        assert parse_relevance(text) is None


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("contradict", "contradicted"),
        ("Contradicted.", "contradicted"),
        ("The reply contradicts the claim.", "contradicted"),
        ("```\nneutral\n```", "neutral"),
        ("“Neutral”, it leaves it open", "neutral"),
        ("entailment", "entailed"),
        ('{"label": "Entailed"}', "entailed"),
        ("entailed: not contradicted", "entailed"),
        ("It is not entailed.", None),
        ("It isn't really entailed.", None),
        ("either neutral or entailed", None),
        ("neutral/entailed", None),
        ("unclear", None),
    ],
)
def test_nli_labels_are_read_by_any_of_their_names(text, label):
    assert parse_nli(text) == label


@pytest.mark.parametrize(
    "text",
    [
        "Shared: calm.\nEntailed: Yes, I do.\nNeutral: Who asks?\nContradicted: No, I do not.",
        "**Shared:** calm\n\n**Contradict:** No, I do not.\n**Neutral**: Who asks?\n"
        '**Entailment:** "Yes,\nI do."',
        "Shared\ncalm\n### Entailed\nYes, I do.\n### Neutral reply\nWho asks?\n### Contradicted\n"
        "No, I do not.",
        "1. Entailed: Yes, I do.\n2. Neutral: Who asks?\n3. Contradicted: No, I do not.",
        '```json\n{"shared": "calm", "entailed": "Yes, I do.", "neutral": "Who asks?",\n'
        '"contradicted": "No, I do not.",}\n```',
    ],
)
def test_replies_are_read_in_every_dress(text):
    assert parse_replies(text) == THREE


@pytest.mark.parametrize(
    "text",
    [
        "Entailed: Yes.\nNeutral: Who asks?",
        "Entailed: Yes.\nNeutral: Yes.\nContradicted: No.",
        "Entailed: Yes.\nEntailed: Sure.\nNeutral: Hm.\nContradicted: No.",
        "Entailed:\nNeutral: Hm.\nContradicted: No.",
        '{"entailed": 1, "neutral": 2, "contradicted": 3}',
        "Yes. Hm. No.",
    ],
)
def test_three_replies_that_are_not_three_are_none(text):
    assert parse_replies(text) is None


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ('"I hum.\nAll day."', "I hum. All day."),
        ("<think>Humming?</think>I hum.", "I hum."),
        ("I'm sorry, but I can't help with that.", None),
        ("  ", None),
    ],
)
def test_an_answer_is_read_as_one_line(text, answer):
    assert parse_answer(text) == answer


def test_failures_and_unreadable_replies_are_none_and_told():
    chat = ScriptedChat("neutral", Failure("refused"), "who knows", Failure("refused"))
    progress = Quiet()
    teacher = LlmTeacher(chat, "en", progress)
    item = NliItem(FACT, "Where?", "Here.", FACT, "entailed")
    assert teacher.judge_nli("Alice", [item] * 4) == [(0.0, 1.0, 0.0), None, None, None]
    assert progress.said == [f"4 asked, without an answer: 2 refused, 1 {UNPARSEABLE}"]


def test_requests_follow_the_paper():
    chat = ScriptedChat()
    teacher = LlmTeacher(chat, "en")
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
    assert f"- {FACT}\n- Alice hums." in answer
    assert replies.index("Shared:") < replies.index("Entailed:")
    for request in chat.requests[1:]:
        assert FACT in request.messages[-1]["content"]


def test_the_worked_example_is_one_that_its_parser_reads():
    chat = ScriptedChat()
    LlmTeacher(chat, "en").extract_statements("Alice", ["Text."])
    example = chat.requests[0].messages[1]["content"]
    statements = parse_statements(example, "Mirela Tashk")
    assert len(statements) == len(example.splitlines())
    assert all("Mirela Tashk" in statement for statement in statements)


@pytest.mark.parametrize("language", ["ja", "zh"])
def test_languages_without_prompts_are_refused(language):
    with pytest.raises(ConfigError, match=f"no prompts .* '{language}' yet"):
        LlmTeacher(ScriptedChat(), language)


def test_a_whole_lesson_and_its_repetition_at_no_cost(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    patience = Patience(first_pause=0.01)
    with FakeOpenAI(plan=["500", None, "html"]) as server, Journal(tmp_path / "j") as journal:

        def lesson():
            chat = ChatModel("m", server.url, 8, journal, patience=patience)
            return run_lesson(LlmTeacher(chat, "en"))

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
    assert relevance == [(0.0, 1.0)] * 3
    replies = teacher.write_replies("Alice Ash", [(i.statement, i.query) for i in own])
    items = [
        NliItem(item.statement, item.query, written[label], item.statement, label)
        for item, written in zip(own, replies, strict=True)
        for label in NLI_LABELS
    ]
    verdicts = teacher.judge_nli("Alice Ash", items)
    assert verdicts == [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)] * 3
    answers = teacher.write_answers("Alice Ash", [(queries[0][0], statements[:2])])
    assert answers[0].startswith("Well, ") and all(s in answers[0] for s in statements[:2])
    other_relevance = teacher.judge_relevance("Alice Ash", [other])
    return lists, queries, relevance, other_relevance, replies, answers
