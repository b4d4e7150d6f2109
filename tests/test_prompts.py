"""The texts that models are shown: the released ones to the byte, and how prefixes join."""

import pytest

from apc_cli.prompts import (
    interview_questions,
    nli_prompt,
    nli_text,
    relevance_prompt,
    relevance_text,
    role_play_messages,
)

STATEMENT = "Komeiji Koishi lives in Chireiden."
QUERY = "Where do you live, Koishi?"
RELEVANCE = (
    b"Character: Komeiji Koishi\n"
    b"    \n"
    b"Persona Statement: Komeiji Koishi lives in Chireiden.\n"
    b"\n"
    b"User Utterance: Where do you live, Koishi?\n"
    b"\n"
    b"Does this user utterance should be responded by including the information in the given "
    b'persona statement? Only answer "yes" or "no" without any explanation.'
)
NLI = (
    b"Character: Komeiji Koishi\n"
    b"    \n"
    b"Persona Statement: Komeiji Koishi lives in Chireiden.\n"
    b"\n"
    b"User Utterance: Where do you live, Koishi?\n"
    b"\n"
    b"Response: I live in Chireiden!\n"
    b"\n"
    b"For this response, is the given persona entailed, neutral, or contradict to it in natural "
    b'language inference? Only answer "entailed", "neutral" or "contradict" without any '
    b"explanation."
)


def test_released_relevance_text_is_exact():
    assert relevance_text("Komeiji Koishi", STATEMENT, QUERY).encode() == RELEVANCE


def test_released_nli_text_is_exact():
    assert nli_text("Komeiji Koishi", STATEMENT, QUERY, "I live in Chireiden!").encode() == NLI


def test_released_style_joins_to_the_released_text():
    relevance = relevance_prompt("released", "Komeiji Koishi", [STATEMENT], QUERY)
    nli = nli_prompt("released", "Komeiji Koishi", [STATEMENT], QUERY, "I live in Chireiden!")
    assert (relevance.prefix + relevance.branches[0]).encode() == RELEVANCE
    assert (nli.prefix + nli.branches[0]).encode() == NLI


def test_statement_last_shares_all_but_the_statement():
    prompt = nli_prompt("statement-last", "Mara", ["A.", "B."], "Who?", "I am.")
    assert [prompt.prefix + branch for branch in prompt.branches] == [
        "Somebody asks Mara: Who?\nMara answers: I am.\nFact: A.\nVerdict:",
        "Somebody asks Mara: Who?\nMara answers: I am.\nFact: B.\nVerdict:",
    ]
    prompt = relevance_prompt("statement-last", "Mara", ["A."], "Who?")
    assert prompt.prefix + prompt.branches[0] == (
        "Somebody asks Mara: Who?\nFact: A.\nAsked about:"
    )


@pytest.mark.parametrize(
    ("language", "words"),
    [("en", "You are Mara."), ("ja", "あなたはMaraです"), ("zh", "你就是Mara")],
)
def test_role_play_messages_hold_facts_history_and_query(language, words):
    history = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    system, *turns = role_play_messages(language, "Mara", ["F1.", "F2."], "q", history)
    assert system["role"] == "system"
    assert system["content"].startswith("F1.\nF2.\n\n") and words in system["content"]
    assert turns == [*history, {"role": "user", "content": "q"}]
    assert "{" not in system["content"]
    [bare, _] = role_play_messages(language, "Mara", [], "q")
    assert bare["content"] == system["content"].removeprefix("F1.\nF2.\n\n")
    assert len(set(interview_questions(language))) == 10
