"""What the role-play model is shown: which statements, and the messages around them."""

from collections.abc import Sequence

from apc_cli.histories import query_in_context
from apc_cli.prompts import role_play_messages
from apc_cli.records import Message
from apc_cli.workshop import Workshop


def conversation(
    shop: Workshop,
    query: str,
    history: Sequence[Message] = (),
    *,
    method: str | None = None,
    top_k: int | None = None,
) -> list[Message]:
    """What the role-play model is shown for a query, by the configured or another method."""
    name, language = shop.character.character, shop.character.language
    shown = shown_statements(shop, query, history, method=method, top_k=top_k)
    return role_play_messages(language, name, shown, query, history)


def shown_statements(
    shop: Workshop,
    query: str,
    history: Sequence[Message] = (),
    *,
    method: str | None = None,
    top_k: int | None = None,
) -> list[str]:
    """The statements that the configured, or another, method puts into the prompt."""
    policy = shop.character.policy
    method = method or policy.method
    if method in ("vanilla", "eu"):
        return []
    if method == "lcm":
        return shop.statements()
    return shop.retriever.top(query_in_context(query, history), top_k or policy.rag_top_k)
