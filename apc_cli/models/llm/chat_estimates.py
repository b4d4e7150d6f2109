"""How many tokens a text has, roughly, where no tokenizer of the model is at hand."""

import json
import re

from apc_cli.models.llm.chat_replies import Usage

_DENSE = re.compile(
    r"[\u1100-\u11ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3\uf900-\ufaff\uff00-\uffef]"
)
_LETTERS_PER_TOKEN = 4.3
_TOKENS_PER_DENSE = 0.85
_TOKENS_PER_TURN = 5
_LIKELY_OUTPUT = 150


def tokens_in(text: str) -> int:
    """About 4.3 letters a token; Chinese and Japanese characters are nearly a token each."""
    dense = len(_DENSE.findall(text))
    return round(dense * _TOKENS_PER_DENSE + (len(text) - dense) / _LETTERS_PER_TOKEN)


def input_tokens(body: str) -> int:
    """The tokens of a request in canonical JSON."""
    turns = json.loads(body)["messages"]
    return sum(tokens_in(turn["content"]) + _TOKENS_PER_TURN for turn in turns)


def likely_usage(body: str) -> Usage:
    """What a request will probably cost, before it is sent."""
    return Usage(input_tokens(body), min(json.loads(body)["max_tokens"], _LIKELY_OUTPUT))


def estimated_usage(body: str, raw: str) -> Usage:
    """The usage of a reply whose server counted nothing."""
    try:
        content = json.loads(raw)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError, RecursionError):
        content = None
    return Usage(input_tokens(body), tokens_in(content or ""))
