"""Where a judgement's probabilities come from."""

import itertools
import math

import pytest
from chat_cases import KEY, model
from fake_openai import FakeOpenAI

from apc_cli.errors import ApcError, TryAgainLater
from apc_cli.models.llm.chat_replies import Token, label_probabilities
from apc_cli.models.llm.journal import Journal
from apc_cli.models.llm.llm_asking import Asker
from apc_cli.models.llm.llm_judge import Judge
from apc_cli.models.llm.llm_labels import NLI_WORDS, RELEVANCE_WORDS
from apc_cli.models.llm.llm_prompts import ALTERNATIVES
from apc_cli.models.llm.llm_scorer import LlmScorer

ABOUT = {
    "en": ("Alice", "Alice owns a red boat.", "Do you own a boat?", "Well, it is said that"),
    "ja": ("こいし", "こいしは赤い帽子を持つ。", "赤い帽子はある？", "うん、"),
    "zh": ("沈青禾", "沈青禾有一把红色的油纸伞。", "你有红色的油纸伞吗？", "嗯，"),
}


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture
def journal(tmp_path):
    with Journal(tmp_path / "journal") as opened:
        yield opened


def token(text, *alternatives):
    pairs = tuple((other.encode(), math.log(p)) for other, p in alternatives)
    return Token(text.encode(), pairs)


def items(language="en", count=1):
    who, statement, query, opening = ABOUT[language]
    return [
        {"character": who, "statement": statement, "query": query, "response": opening + statement}
        | {"query": f"{query} {n}" if n else query}
        for n in range(count)
    ]


def test_the_alternatives_of_a_label_add_up():
    """0.6 for yes in two spellings, 0.2 for no, the rest begins no label: 0.75 and 0.25."""
    tokens = [token("Yes", ("Yes", 0.5), (" yes", 0.1), ("No", 0.2), ("Perhaps", 0.2)), token(".")]
    found = label_probabilities(tokens, "yes", RELEVANCE_WORDS)
    assert found == pytest.approx({"yes": 0.75, "no": 0.25})


def test_labels_that_begin_in_the_middle_of_a_character_are_told_apart():
    part = Token(
        "矛".encode()[:2], (("矛".encode()[:2], math.log(0.8)), (b"\xe4\xb8", math.log(0.2)))
    )
    found = label_probabilities([part], "contradicted", NLI_WORDS)
    assert found == pytest.approx({"contradicted": 0.8, "neutral": 0.2, "entailed": 0.0})
    shared = Token(b"\xe3\x81", ((b"\xe3\x81", 0.0),))  # the beginning of both はい and いいえ
    assert label_probabilities([shared], "yes", RELEVANCE_WORDS) is None


def test_thoughts_and_padding_before_the_label_do_not_count():
    thought = [token("<think>"), token("Yes", ("Yes", 1.0)), token("</think>"), token("\n")]
    answer = token(' "Yes', (' "Yes', 0.9), ("No", 0.1))
    found = label_probabilities([*thought, answer], "yes", RELEVANCE_WORDS)
    assert found == pytest.approx({"yes": 0.9, "no": 0.1})


def test_tokens_that_do_not_show_the_answer_are_not_used():
    assert label_probabilities([token("Sure", ("Sure", 1.0))], "yes", RELEVANCE_WORDS) is None
    assert label_probabilities([], "yes", RELEVANCE_WORDS) is None


@pytest.mark.parametrize("language", ["en", "ja", "zh"])
def test_log_probabilities_come_first(journal, language):
    with FakeOpenAI() as server:
        judge = Judge(Asker(model(server, journal), language), samples=5)
        (relevant,) = judge.relevance(items(language))
        (entailed,) = judge.nli(items(language))
        assert server.requests == 2
        assert server.bodies[0]["top_logprobs"] == ALTERNATIVES
    assert relevant.source == entailed.source == "logprobs"
    assert relevant.probabilities[1] == max(relevant.probabilities) < 1
    assert entailed.probabilities[2] == max(entailed.probabilities) < 1
    assert sum(entailed.probabilities) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("how", ["silent", "refused", "403"])
def test_samples_take_the_place_of_log_probabilities(journal, how):
    plan = ["403logprobs"] if how == "403" else []
    with FakeOpenAI(plan) as server:
        server.gives_logprobs = how != "silent"
        server.refuses = {"logprobs"} if how == "refused" else set()
        if how == "403":
            server.gives_logprobs = False
        judge = Judge(Asker(model(server, journal, concurrency=1), "en"), samples=4)
        (found,) = judge.nli(items())
        answers = [body["temperature"] for body in server.bodies if "logprobs" not in body]
        assert server.bodies[-1]["temperature"] == 1.0 and answers.count(1.0) == 4
    assert found.source == "samples" and found.probabilities == (0.0, 0.0, 1.0)


def test_fewer_alternatives_are_taken_where_twenty_are_too_many(journal):
    with FakeOpenAI() as server:
        real = server.answer

        def at_most_five(body):
            if body.get("top_logprobs", 0) > 5:
                message = "Invalid 'top_logprobs': must be at most 5"
                return 400, {"error": {"message": message, "param": "top_logprobs"}}
            return real(body)

        server.answer = at_most_five
        (found,) = Judge(Asker(model(server, journal), "en"), samples=1).relevance(items())
    assert found.source == "logprobs"


def test_one_answer_is_the_last_resort(journal):
    with FakeOpenAI() as server:
        server.gives_logprobs = False
        (found,) = Judge(Asker(model(server, journal), "en"), samples=1).relevance(items())
        assert server.requests == 1
    assert found.source == "answer" and found.probabilities == (0.0, 1.0)


def test_a_changed_reading_of_the_replies_costs_nothing(journal):
    with FakeOpenAI() as server:
        asker = Asker(model(server, journal), "en")
        assert asker.ask("judge_nli", items(count=9), lambda text: None) == [None] * 9
        assert server.requests == 9
        again = asker.ask("judge_nli", items(count=9), str.upper)
        assert server.requests == 9
    assert again == ["ENTAILED."] * 9


def test_too_many_failures_stop_the_stage(journal):
    with FakeOpenAI(plan=["400"] * 5) as server:
        asker = Asker(model(server, journal), "en", most_failed=0.2)
        with pytest.raises(ApcError, match="5 of 20 questions .*judge_nli.* have no answer"):
            Judge(asker, 1).nli(items(count=20))
        assert len(asker.failures) == 5 and not asker.failures[0].temporary
        assert asker.failures[0].about["statement"] == ABOUT["en"][1]
    with FakeOpenAI(plan=["html"] * 20) as server:
        with pytest.raises(TryAgainLater):
            Judge(Asker(model(server, journal), "en", most_failed=0.2), 1).relevance(items(count=4))


def unclear_at_zero(server, draws=None):
    """Makes the server give no label at temperature 0, and give `draws` after one another else."""
    server.gives_logprobs = False
    real, later = server.answer, itertools.chain(draws or [], itertools.repeat(None))

    def answer(body):
        status, found = real(body)
        text = next(later) if body.get("temperature") else "Hard to say."
        if text:
            found["choices"][0]["message"]["content"] = text
        return status, found

    server.answer = answer


def test_labels_are_drawn_where_the_first_answer_says_nothing(journal):
    with FakeOpenAI() as server:
        unclear_at_zero(server)
        (found,) = Judge(Asker(model(server, journal), "en"), samples=3).nli(items())
        assert server.requests == 4
    assert (found.source, found.probabilities) == ("samples", (0.0, 0.0, 1.0))


def test_labels_are_drawn_where_the_first_answer_was_withheld(journal):
    with FakeOpenAI(["content_filter"]) as server:
        server.gives_logprobs = False
        (found,) = Judge(Asker(model(server, journal), "en"), samples=3).nli(items())
    assert found.source == "samples"


def test_a_refused_question_is_not_drawn(journal):
    with FakeOpenAI(["400"]) as server:
        asker = Asker(model(server, journal), "en")
        assert Judge(asker, samples=3).nli(items()) == [None]
        assert server.requests == 1 and not asker.failures[0].temporary


def test_an_item_with_draws_to_come_has_no_label_yet(journal):
    with FakeOpenAI([None, None, *["html"] * 3]) as server:
        server.gives_logprobs = False
        asker = Asker(model(server, journal, concurrency=1), "en")
        assert Judge(asker, samples=3).nli(items()) == [None]
        assert [item.temporary for item in asker.failures] == [True]
        (found,) = Judge(asker, samples=3).nli(items())
    assert found.source == "samples"


def test_a_missing_verdict_says_why_and_what_helps(journal):
    who, statement, query, response = ABOUT["en"]
    with FakeOpenAI() as server:
        unclear_at_zero(server, ["Who knows?"] * 99)
        asker = Asker(model(server, journal), "en")
        (unscored,) = LlmScorer(asker, 2, {}, strict=False).score(
            who, [statement], query, [response]
        )
        assert unscored.reason.endswith("no verdict on 1 statements: the reply could not be read")
        with pytest.raises(ApcError, match="could not be read") as caught:
            LlmScorer(asker, 2, {}, strict=True).score(who, [statement], query, [response])
    assert not isinstance(caught.value, TryAgainLater)
    assert "evaluator.model" in caught.value.hint and "run again" not in caught.value.hint
    with FakeOpenAI(["html"] * 99) as server:
        asker = Asker(model(server, journal), "en")
        with pytest.raises(TryAgainLater, match="not a chat completion"):
            LlmScorer(asker, 2, {}, strict=True).score(who, [statement], "Now?", [response])


def test_a_stage_without_any_answer_stops_however_much_may_fail(journal):
    with FakeOpenAI(plan=["400"] * 2) as server:
        asker = Asker(model(server, journal), "en", most_failed=1.0)
        with pytest.raises(ApcError, match="2 of 2 questions"):
            Judge(asker, 1).nli(items(count=2))
