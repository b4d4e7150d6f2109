"""Prices, limits, and the terms of servers that take less than OpenAI does."""

import itertools
import json

import pytest
from chat_cases import HASTY, KEY, ask, echoes, items
from chat_cases import model as online
from fake_openai import FakeOpenAI

from apc_cli.errors import ConfigError, TryAgainLater
from apc_cli.models.llm.chat_costs import Count, Meter, Price, check_limit, price_of
from apc_cli.models.llm.chat_endpoint import Endpoint
from apc_cli.models.llm.chat_estimates import tokens_in
from apc_cli.models.llm.chat_model import ChatModel
from apc_cli.models.llm.chat_outcomes import (
    Failure,
    Fatal,
    Refusal,
    Unsupported,
    outcome_of_refusal,
)
from apc_cli.models.llm.chat_replies import Usage, usage_of
from apc_cli.models.llm.chat_requests import Dialect, canonical_json

SERVER = Endpoint("https://api.openai.com/v1", "https://api.openai.com", KEY)
SCHEMA = {"type": "object", "properties": {"z": {"type": "string"}, "a": {"type": "string"}}}


def test_prices_come_from_a_table_and_unknown_ones_are_none():
    assert price_of("gpt-4.1", SERVER.url) == Price(2.0, 8.0, 0.5)
    assert price_of("no-such-model", SERVER.url) is None
    assert price_of("gpt-4.1", "http://127.0.0.1:8000/v1") is None


def test_a_price_of_tokens_worked_by_hand():
    price = Price(input=2.0, output=8.0, cached=0.5)
    assert price.of(Usage(1000, 100)) == pytest.approx(0.0028)
    assert price.of(Usage(1000, 100, cached=400)) == pytest.approx(0.0012 + 0.0002 + 0.0008)


def test_usage_is_read_where_there_is_any():
    tokens = {"prompt_tokens": 9, "completion_tokens": 2}
    raw = {"usage": tokens | {"prompt_tokens_details": {"cached_tokens": 4}}}
    assert usage_of(json.dumps(raw)) == Usage(9, 2, 4)
    for odd in ("{}", '{"usage": null}', '{"usage": {"prompt_tokens": "x"}}', "[]", "no"):
        assert usage_of(odd) is None


def test_the_meter_counts_what_the_server_counted(journal):
    meter = Meter(Price(1.0, 2.0))
    with FakeOpenAI() as server:
        chat = ChatModel("m", server.url, 4, journal, meter=meter)
        chat.complete_all(items(6))
        chat.complete_all(items(8))
    assert (meter.count.requests, meter.count.stored) == (8, 6)
    n_in, n_out = meter.count.input_tokens, meter.count.output_tokens
    assert meter.count.dollars == pytest.approx((n_in + 2 * n_out) / 1e6)
    assert "8 asked, 6 stored, $0.0" in meter.note()


@pytest.mark.parametrize("concurrency", [1, 4])
def test_no_more_requests_are_sent_than_allowed(journal, concurrency):
    with FakeOpenAI(plan=["500", None, "500"]) as server:
        meter = Meter(max_requests=10)
        chat = ChatModel("m", server.url, concurrency, journal, meter=meter)
        with pytest.raises(TryAgainLater, match="--max-requests 10 is reached") as caught:
            chat.complete_all(items(30))
        assert server.requests == 10
        assert caught.value.hint.startswith("8 of 30 replies are stored")
        assert online(server, journal).complete_all(items(30)) == echoes(30)
        assert server.requests == 32


def test_dollars_stop_a_run_before_the_next_item_would_go_beyond(journal):
    with FakeOpenAI(delay=0.01) as server:
        one = Meter(Price(1000.0, 1000.0))
        ChatModel("m", server.url, 1, journal, meter=one).complete_all([ask("item 99")])
        limit = one.count.dollars * 10.5
        meter = Meter(one.price, max_dollars=limit)
        with pytest.raises(TryAgainLater, match="--max-cost"):
            ChatModel("m", server.url, 4, journal, meter=meter).complete_all(items(50))
    assert limit * 0.8 < meter.count.dollars <= limit + 4 * one.count.dollars


def test_the_mean_cost_of_a_reply_is_that_of_all_who_share_the_count():
    count, usage = Count(), Usage(1_000_000, 0)
    one = Meter(Price(1.0, 1.0), count=count)
    other = Meter(Price(1.0, 1.0), max_dollars=12.5, count=count)
    for meter in [one] * 10 + [other]:
        meter.paid(usage)
    other.admit()
    with pytest.raises(TryAgainLater, match="--max-cost"):
        other.admit()


def test_unreadable_replies_cost_what_the_server_counted(journal):
    meter = Meter(Price(1.0, 1.0))
    with FakeOpenAI() as server:
        real, empty = server.answer, itertools.chain([True], itertools.repeat(False))

        def answer(body):
            status, found = real(body)
            if next(empty):
                found["choices"][0]["message"]["content"] = None
            usage = {"prompt_tokens": 7, "completion_tokens": 3}
            return status, found | {"usage": usage}

        server.answer = answer
        ChatModel("m", server.url, 1, journal, meter=meter, patience=HASTY).complete_all(items(1))
    assert (meter.count.input_tokens, meter.count.output_tokens) == (14, 6)


def test_a_limit_in_dollars_needs_a_price():
    check_limit(None, None, "m")
    with pytest.raises(ConfigError, match="price, and that of m is not known") as caught:
        check_limit(None, 5.0, "m")
    assert "--max-requests" in caught.value.hint


def test_tokens_are_estimated_by_script():
    assert tokens_in("a" * 430) == 100
    assert tokens_in("漢" * 100) == 85


@pytest.mark.parametrize(
    ("status", "body", "parameter"),
    [
        (400, {"message": "Use 'max_completion_tokens'", "param": "max_tokens"}, "max_tokens"),
        (400, {"message": "Unsupported value: 'temperature' does not support 0.0"}, "temperature"),
        (403, {"message": "You are not allowed to request logprobs from this model"}, "logprobs"),
        (400, {"message": "Invalid value for 'top_logprobs': at most 5"}, "top_logprobs"),
        (422, {"detail": "Unexpected fields: {'response_format'}"}, "response_format"),
        (400, {"message": "json_schema is not supported by this model"}, "response_format"),
    ],
)  # fmt: skip
def test_refused_parameters_are_recognised(status, body, parameter):
    assert outcome_of_refusal(Refusal.of(status, {"error": body}), SERVER, "m") == Unsupported(
        parameter
    )


def test_what_is_no_matter_of_parameters_is_not_taken_for_one():
    too_long = "This model's maximum context length is 8192 tokens. Your max_tokens is unsupported."
    for body in ({"message": too_long}, {"message": "flagged by policy"}):
        assert isinstance(outcome_of_refusal(Refusal.of(400, body), SERVER, "m"), Failure)
    assert isinstance(outcome_of_refusal(Refusal.of(403, {"message": "no"}), SERVER, "m"), Fatal)
    flagged = {"message": "flagged", "metadata": {"reasons": ["violence"]}}
    found = outcome_of_refusal(Refusal.of(403, {"error": flagged}), SERVER, "m")
    assert isinstance(found, Failure) and "flagged" in found.reason and not found.temporary


def test_a_dialect_steps_down_to_nothing():
    request = ask("x", schema=SCHEMA, top_logprobs=20)
    body = canonical_json("m", request)
    dialect, seen = Dialect(), []
    for parameter in ("response_format", "top_logprobs", "response_format", "top_logprobs"):
        options = dialect.options(body)
        kind = options.get("response_format", {}).get("type")
        seen.append((kind, options.get("top_logprobs")))
        dialect = dialect.without(parameter)
    assert seen == [("json_schema", 20), ("json_object", 20), ("json_object", 5), (None, 5)]
    for parameter in ("max_tokens", "max_completion_tokens", "temperature"):
        dialect = dialect.without(parameter)
    assert set(dialect.options(body)) == {"model", "messages"}


def test_a_schema_travels_in_its_own_order_and_is_part_of_the_key():
    body = canonical_json("m", ask("x", schema=SCHEMA))
    sent = Dialect().options(body)["response_format"]["json_schema"]["schema"]
    assert list(sent["properties"]) == ["z", "a"]
    turned = SCHEMA | {"properties": dict(reversed(SCHEMA["properties"].items()))}
    keys = {canonical_json("m", ask("x", schema=s)) for s in (None, SCHEMA, turned)}
    assert len(keys) == 3


def test_garbage_is_kept_aside_but_never_used(journal):
    with FakeOpenAI(plan=itertools.chain(["html"], itertools.repeat(None))) as server:
        assert online(server, journal).complete_all(items(1)) == echoes(1)
    (kept,) = journal.names("unreadable ")
    assert "It works!" in journal.get(kept)
