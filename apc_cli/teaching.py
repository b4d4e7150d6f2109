"""The LLM side of a workshop: teacher and evaluator at one server, their cost and failures.

Built when a stage first asks for it; an offline run never gets here.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import cached_property
from typing import Any

from apc_cli.config import Character
from apc_cli.models.llm.chat_costs import Count, Meter, Price, check_limit, price_of
from apc_cli.models.llm.chat_endpoint import address_in_environment, endpoint_from_environment
from apc_cli.models.llm.chat_model import ChatModel
from apc_cli.models.llm.journal import Journal
from apc_cli.models.llm.llm_asking import Asker, FailedItem
from apc_cli.models.llm.llm_scorer import LlmScorer
from apc_cli.models.llm.llm_teacher import LlmTeacher
from apc_cli.progress import Progress
from apc_cli.records import Summary
from apc_cli.workspace import FAILURES, Workspace, write_text

JOURNAL = "teacher.journal"


class Teaching:
    """The LLM as teacher and, where it is asked for, as evaluator, over one journal.

    Attributes:
        count: what both have asked and paid for.
        meters: theirs, over that one count.
    """

    def __init__(self, character: Character, workspace: Workspace, progress: Progress) -> None:
        self._character, self._workspace, self._progress = character, workspace, progress
        self.count = Count()
        self.meters: list[Meter] = []
        self._askers: list[Asker] = []

    @cached_property
    def teacher(self) -> LlmTeacher:
        """The teacher.

        Raises:
            ConfigError: no key, an address that cannot be used, or a limit without a price.
        """
        settings = self._character.teacher
        chat = self._chat_model(settings.model)
        asker = self._asker(chat, self._progress, settings.max_failed)
        return LlmTeacher(asker, self._character.language, settings.label_samples)

    def evaluator(self, *, strict: bool) -> LlmScorer:
        """The evaluator; a `strict` one stops where a verdict is missing."""
        settings = self._character.teacher
        chat = self._chat_model(evaluator_model(self._character))
        asker, weights = self._asker(chat, None, None), self._character.persona.weights
        return LlmScorer(asker, settings.label_samples, weights, strict=strict)

    @contextmanager
    def stage(self, name: str) -> Iterator["StageAccount"]:
        """Watches a stage; its failed items are in failures.jsonl afterwards, however it ends."""
        for asker in self._askers:
            asker.failures.clear()
        account = StageAccount(self, self.count.copy())
        try:
            yield account
        finally:
            self._write_failures(name, self.failures())

    def failures(self) -> list[FailedItem]:
        """The items without an answer in this stage."""
        return [item for asker in self._askers for item in asker.failures]

    def cost_since(self, earlier: Count | None = None) -> dict[str, Any]:
        """What was asked since, as data; nothing where nothing was.

        Dollars are None where a price is not known.
        """
        cost = self.count.since(earlier or Count())
        if not (cost.requests or cost.stored):
            return {}
        known = all(meter.price for meter in self.meters)
        return asdict(cost) | {"dollars": round(cost.dollars, 6) if known else None}

    def _write_failures(self, stage: str, failed: Sequence[FailedItem]) -> None:
        path = self._workspace.path(FAILURES)
        lines = path.read_text(encoding="utf-8").split("\n") if path.is_file() else []
        kept = [line for line in lines if line and json.loads(line)["stage"] != stage]
        new = [json.dumps({"stage": stage} | f.row(), ensure_ascii=False) for f in failed]
        if kept + new:
            write_text(path, "".join(f"{line}\n" for line in kept + new))
        else:
            path.unlink(missing_ok=True)

    def _asker(
        self, chat: ChatModel, progress: Progress | None, most_failed: float | None
    ) -> Asker:
        asker = Asker(chat, self._character.language, progress, most_failed)
        self._askers.append(asker)
        return asker

    def _chat_model(self, model: str) -> ChatModel:
        settings = self._character.teacher
        price = configured_price(self._character, model)
        check_limit(price, settings.max_cost, model)
        meter = Meter(price, settings.max_requests, settings.max_cost, self.count)
        self.meters.append(meter)
        if settings.batch:
            self._progress.say(
                f"{model} is asked by batches: they may take a day; a run that was interrupted "
                "finds them again"
            )
        return ChatModel(
            model,
            settings.base_url,
            settings.concurrency,
            self._journal,
            insecure=settings.insecure_http,
            meter=meter,
            batch=settings.batch,
        )

    @cached_property
    def _journal(self) -> Journal:
        settings = self._character.teacher
        server = endpoint_from_environment(settings.base_url, insecure=settings.insecure_http)
        self._workspace.create()
        journal = Journal(self._workspace.path(JOURNAL))
        if journal.damaged:
            self._progress.say(
                f"warning: {journal.damaged} damaged records in {JOURNAL} are left out and kept in "
                f"{JOURNAL}.bad; what they answered is asked again"
            )
        if others := sorted(journal.servers - {server.name}):
            self._progress.say(f"replies stored from {', '.join(others)} are used again")
        return journal


class StageAccount:
    """What one stage has asked of the LLM."""

    def __init__(self, teaching: Teaching, before: Count) -> None:
        self._teaching, self._before = teaching, before

    def added_to(self, summary: Summary) -> Summary:
        """The summary with cost and failures; as it is where nothing was asked."""
        cost = self._teaching.cost_since(self._before)
        if not cost:
            return summary
        failed = self._teaching.failures()
        passing = sum(item.temporary for item in failed)
        return replace(summary, cost=cost, failed=len(failed), retry=passing)


def configured_price(character: Character, model: str) -> Price | None:
    """The price in the configuration, else in the table; None where neither has one.

    The configuration has that of teacher.model: another model has another price.
    """
    settings = character.teacher
    own = model == settings.model
    if own and settings.price_input is not None and settings.price_output is not None:
        return Price(settings.price_input, settings.price_output)
    return price_of(model, settings.base_url or address_in_environment())


def evaluator_model(character: Character) -> str:
    """The name of the LLM that measures."""
    return character.evaluator.model or character.teacher.model
