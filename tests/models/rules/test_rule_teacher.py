"""The rule-based teacher as the pipeline sees it: one method of `Teacher` after the other."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apc_cli.models.rules.rule_teacher import RuleTeacher
from apc_cli.records import NLI_LABELS, Judgement, NliItem, RelevanceItem

STATEMENTS = [
    "Alice has long brown hair.",
    "Alice's eyes are green.",
    "Alice teaches guitar.",
    "Alice lives in Lyon with her sister.",
    "Alice sketches in notebooks.",
    "Alice is 26 years old.",
]
PAIRS = [(statement, "What can you tell me?") for statement in STATEMENTS]


@pytest.fixture
def teacher():
    return RuleTeacher(seed=3)


def only(probabilities):
    return probabilities.index(1.0)


def test_statements_name_the_character_and_are_atomic(teacher):
    paragraphs = ["Alice is a painter. She teaches guitar and plays local venues."]
    assert teacher.extract_statements("Alice", paragraphs) == [
        ["Alice is a painter.", "Alice teaches guitar.", "Alice plays local venues."]
    ]


def test_a_fact_told_twice_is_kept_once(teacher):
    paragraphs = ["Alice teaches guitar.", "She also teaches guitar. She sings."]
    assert teacher.extract_statements("Alice", paragraphs) == [
        ["Alice teaches guitar."],
        ["Alice sings."],
    ]


def test_queries_are_distinct_unnamed_and_as_many_as_asked(teacher):
    queries = teacher.propose_queries("Alice", STATEMENTS, 3)
    assert [len(row) for row in queries] == [3] * len(STATEMENTS)
    flat = [query.lower() for row in queries for query in row]
    assert len(set(flat)) == len(flat)
    assert not any("alice" in query for query in flat)


def test_queries_for_an_unusual_fact_speak_of_it(teacher):
    (queries,) = teacher.propose_queries("Alice", ["Alice repairs clocks."], 4)
    assert any("clocks" in query for query in queries)


def test_an_entailed_reply_says_the_fact_in_the_first_person(teacher):
    statement = "Bob's students fear his exams."
    (replies,) = teacher.write_replies("Bob", [(statement, "What about them?")])
    assert "my students fear my exams" in replies["entailed"].lower()


def test_replies_have_every_label_and_a_speakable_length(teacher):
    for replies in teacher.write_replies("Alice", PAIRS):
        assert tuple(replies) == NLI_LABELS
        assert all(8 <= len(text.split()) <= 40 for text in replies.values())
        assert len(set(replies.values())) == 3
        assert not any("Alice" in text for text in replies.values())


def test_only_the_entailed_reply_holds_the_fact(teacher):
    for statement, replies in zip(STATEMENTS, teacher.write_replies("Alice", PAIRS), strict=True):
        judged = {
            label: teacher.judge_nli(
                "Alice", [NliItem(statement, "?", text, "another statement", label)]
            )
            for label, text in replies.items()
        }
        assert only(judged["entailed"][0].probabilities) == NLI_LABELS.index("entailed")
        assert only(judged["neutral"][0].probabilities) == NLI_LABELS.index("neutral")
        assert only(judged["contradicted"][0].probabilities) == NLI_LABELS.index("contradicted")


def test_a_reply_keeps_the_label_it_was_written_as(teacher):
    item = NliItem(STATEMENTS[0], "?", "Ask me later.", STATEMENTS[0], "contradicted")
    assert teacher.judge_nli("Alice", [item]) == [Judgement((1.0, 0.0, 0.0), "rules")]


def test_a_reply_about_something_else_is_neutral(teacher):
    item = NliItem(STATEMENTS[0], "?", "I teach guitar.", STATEMENTS[2], "entailed")
    assert teacher.judge_nli("Alice", [item]) == [Judgement((0.0, 1.0, 0.0), "rules")]


@pytest.mark.parametrize(
    ("statement", "query", "asked_of", "relevant"),
    [
        (STATEMENTS[0], "Anything at all", STATEMENTS[0], True),
        (STATEMENTS[0], "What do you look like?", STATEMENTS[1], True),
        (STATEMENTS[2], "What do you look like?", STATEMENTS[1], False),
        (STATEMENTS[4], "I heard something about notebooks. What's the story?", "x", True),
        (STATEMENTS[3], "I heard something about notebooks. What's the story?", "x", False),
        (STATEMENTS[5], "how old are you", "x", True),
        (STATEMENTS[2], "how old are you", "x", False),
    ],
)
def test_relevance_follows_what_both_are_about(teacher, statement, query, asked_of, relevant):
    (found,) = teacher.judge_relevance("Alice", [RelevanceItem(statement, query, asked_of)])
    assert found.probabilities == ((0.0, 1.0) if relevant else (1.0, 0.0))


def test_an_answer_tells_its_facts_in_order_and_in_the_first_person(teacher):
    told = ["Alice teaches guitar.", "Alice is shy.", "Alice has two brothers."]
    items = [(f"Question {i}?", told) for i in range(40)]
    answers = teacher.write_answers("Alice", items)
    for answer in answers:
        places = [answer.index(words) for words in ("teach guitar", "shy", "two brothers")]
        assert places == sorted(places) and "Alice" not in answer
        assert answer.count(".") == 3
    assert len(set(answers)) > 5
    assert teacher.write_answers("Alice", [("Hello?", [])]) == [None]


def test_no_answer_links_two_facts_alike(teacher):
    told = ["Alice teaches guitar.", "Alice is shy.", "Alice has two brothers."]
    answers = teacher.write_answers("Alice", [(f"Question {i}?", told) for i in range(300)])
    linked = [answer.lower().count("you may like to know that") for answer in answers]
    assert max(linked) == 1


def test_the_same_seed_writes_the_same_and_another_seed_does_not(teacher):
    first = teacher.write_replies("Alice", PAIRS)
    assert RuleTeacher(seed=3).write_replies("Alice", PAIRS) == first
    assert RuleTeacher(seed=4).write_replies("Alice", PAIRS) != first


def test_what_is_right_and_wrong_about_a_statement_ignores_the_rest_of_the_batch(teacher):
    alone = teacher.write_replies("Alice", PAIRS[3:4])[0]
    among = teacher.write_replies("Alice", PAIRS)[3]
    for label in ("entailed", "contradicted"):
        assert alone[label] == among[label]


def test_openers_tell_nothing_of_the_label(teacher):
    pairs = [(statement, f"Question {i}?") for statement in STATEMENTS[2:] for i in range(40)]
    replies = teacher.write_replies("Alice", pairs)
    shares = {
        label: sum(row[label].startswith(("Good question.", "Fair enough.")) for row in replies)
        / len(replies)
        for label in NLI_LABELS
    }
    assert min(shares.values()) > 0
    assert max(shares.values()) - min(shares.values()) < 0.08


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=200), st.integers(0, 5))
def test_no_text_breaks_the_teacher(text, seed):
    teacher = RuleTeacher(seed)
    (statements,) = teacher.extract_statements("The Baker", [text])
    assert all(statement.strip() for statement in statements)
    whole = ["The Baker " + " ".join(text.split())]
    (replies,) = teacher.write_replies("The Baker", [(whole[0], text)])
    assert set(replies) == set(NLI_LABELS)
    assert len(teacher.propose_queries("The Baker", whole, 3)) == 1
