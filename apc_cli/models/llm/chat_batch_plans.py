"""What the journal knows of batches: which were planned, submitted and collected."""

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from apc_cli.errors import ConfigError
from apc_cli.models.llm.journal import Journal

OPEN, ID, DONE = "batch ", "batch id ", "batch done "
"""Beginnings of the journal's keys: what a batch holds, its id at the server, how it ended."""


@dataclass
class Plan:
    """One batch: its name, and the items it holds."""

    name: str
    items: dict[str, str]


def open_plans(journal: Journal, server: str) -> Iterator[Plan]:
    """The batches of a server that were planned and never collected."""
    for key in journal.names(OPEN):
        name = key.removeprefix(OPEN)
        if journal.get(key) == server and journal.get(DONE + name) is None:
            yield Plan(name, json.loads(journal.request(key) or "{}"))


def check_none_in_batch(missing: Collection[str], journal: Journal, server: str) -> None:
    """Items that an open batch holds are not to be asked, and paid, one by one as well.

    Raises:
        ConfigError: there are such items.
    """
    held = {key for plan in open_plans(journal, server) for key in plan.items if key in missing}
    if held:
        raise ConfigError(
            f"a batch at {server} holds {len(held)} of these replies",
            "run with teacher.batch: true; to ask one by one, cancel the batch at the server and "
            "run so once",
        )
