"""Earlier turns of a conversation: how judges are shown them, and how many fit into a prompt.

A judge reads one user utterance. In a conversation it is shown the user's last utterance and then
the query, as one utterance: "Do you have pets? What are their names?" The character's own replies
stay out, so that what it once said wrongly makes no statement relevant. Without earlier turns the
text is the query, to the byte.
"""

import random
from collections.abc import Callable, Sequence
from typing import Any

from apc_cli.records import Message

HISTORY_HINT = (
    '`history` is a list of {"role": "user" or "assistant" (or "system"), "content": text}, '
    "oldest first, without the query"
)


def query_in_context(query: str, history: Sequence[Message] = ()) -> str:
    """The query as the relevance and NLI judges are shown it."""
    said = [turn["content"] for turn in history if turn["role"] == "user"]
    return f"{said[-1]} {query}" if said else query


def is_history(value: Any) -> bool:
    """Whether a value from outside is a list of user and assistant messages."""
    return isinstance(value, list) and all(
        isinstance(turn, dict)
        and turn.get("role") in ("system", "user", "assistant")
        and isinstance(turn.get("content"), str)
        for turn in value
    )


def fitting(
    compose: Callable[[Sequence[Message]], list[Message]],
    history: Sequence[Message],
    count_tokens: Callable[[Sequence[Message]], int],
    limit: int,
) -> list[Message]:
    """The conversation with the newest turns that fit, oldest left out first.

    Args:
        compose: makes the conversation that a history leads to.
        history: from the first turn on.
        count_tokens: how many tokens a conversation takes in the model's own template.
        limit: how many it may take; with no history left it may still be more.
    """
    kept = list(history)
    while True:
        conversation = compose(kept)
        if not kept or count_tokens(conversation) <= limit:
            return conversation
        kept = kept[1:]
        while kept and kept[0]["role"] != "user":
            kept = kept[1:]


def earlier_turns(
    query: str, exchanges: Sequence[tuple[str, str]], most: int, seed: int
) -> list[Message]:
    """A history for a query: none to `most` of the (query, reply) exchanges about other queries.

    The seed and the query decide which; each number of turns is as likely.
    """
    others = [exchange for exchange in exchanges if exchange[0] != query]
    draw = random.Random(f"history {seed} {query}")
    chosen = draw.sample(others, min(draw.randint(0, most), len(others)))
    return [
        {"role": role, "content": text}
        for exchange in chosen
        for role, text in zip(("user", "assistant"), exchange, strict=True)
    ]
