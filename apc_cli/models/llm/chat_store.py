"""Between a run and the journal: what is written is counted, and free of the secret."""

import asyncio
from dataclasses import replace

from apc_cli.models.llm.chat_costs import Meter
from apc_cli.models.llm.chat_endpoint import Endpoint
from apc_cli.models.llm.chat_estimates import estimated_usage
from apc_cli.models.llm.chat_replies import (
    Choice,
    Completion,
    Failure,
    read_choices,
    read_completion,
    usage_of,
)
from apc_cli.models.llm.journal import Journal

_LONGEST_UNREADABLE = 1_000_000


class Store:
    """The journal of one model at one endpoint, with the meter that counts what is paid."""

    def __init__(self, journal: Journal, endpoint: Endpoint, meter: Meter) -> None:
        self.journal, self._endpoint, self._meter = journal, endpoint, meter

    def get(self, key: str) -> Completion | Failure | None:
        """The stored answer to an item."""
        raw = self.journal.get(key)
        return None if raw is None else _answer(raw)

    def choices(self, key: str) -> list[Choice]:
        """All replies of a stored answer; none where nothing is stored."""
        raw = self.journal.get(key)
        return [] if raw is None else read_choices(raw)

    async def keep(
        self, key: str, body: str, raw: str, factor: float = 1.0
    ) -> Completion | Failure:
        """Stores a reply that was paid for, at `factor` times the price, and gives what counts.

        A thread waits for the disk, so that other replies can arrive meanwhile.
        """
        self._meter.paid(usage_of(raw) or estimated_usage(body, raw), factor)
        clean = self._endpoint.without_secret
        name = self._endpoint.name
        return _answer(
            await asyncio.to_thread(self.journal.put, key, clean(body), clean(raw), name)
        )

    def keep_unreadable(self, key: str, body: str, raw: str, factor: float = 1.0) -> None:
        """Stores what came in place of a reply, for whoever wants to know; it is never used.

        It has been paid for where the server counted tokens.
        """
        if usage := usage_of(raw):
            self._meter.paid(usage, factor)
        clean = self._endpoint.without_secret
        name = f"unreadable {key} {len(self.journal)}"
        self.journal.put(name, clean(body), clean(raw[:_LONGEST_UNREADABLE]), self._endpoint.name)

    def clean(self, text: str) -> str:
        """The text without the secret."""
        return self._endpoint.without_secret(text)


def _answer(raw: str) -> Completion | Failure:
    answer = read_completion(raw) or Failure("the stored reply is not a chat completion")
    return replace(answer, stored=True) if isinstance(answer, Failure) else answer
