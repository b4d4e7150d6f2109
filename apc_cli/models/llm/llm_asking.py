"""Puts a teacher's questions to the chat model, and keeps account of those without an answer."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from apc_cli.errors import ApcError, TryAgainLater
from apc_cli.models.llm.chat_model import ChatModel
from apc_cli.models.llm.chat_replies import Completion, Failure
from apc_cli.models.llm.llm_prompts import KINDS, Prompts
from apc_cli.progress import Progress

UNPARSEABLE = "the reply could not be read"
_FEWEST_THAT_STOP = 3

Values = Mapping[str, str]
_T = TypeVar("_T")


@dataclass(frozen=True)
class FailedItem:
    """A question without an answer: what it asked about, and why there is none.

    `temporary` ones are asked again by the next run; the others would only fail again.
    """

    question: str
    reason: str
    temporary: bool
    about: Values

    def row(self) -> dict[str, Any]:
        """The item as a line of failures.jsonl."""
        return asdict(self)


class Asker:
    """Asks batches of questions of one kind.

    Attributes:
        failures: the items without an answer so far; whoever reports them empties the list.
    """

    def __init__(
        self,
        chat_model: ChatModel,
        language: str,
        progress: Progress | None = None,
        most_failed: float | None = None,
    ) -> None:
        """`most_failed` is the share of a batch whose failure stops the stage, as does all of it.

        None never stops: whoever asks does without the answers.

        Raises:
            ConfigError: there are no prompts in the language.
        """
        self._chat_model, self._progress = chat_model, progress
        self._most_failed = most_failed
        self._prompts = Prompts(language)
        self.failures: list[FailedItem] = []

    def ask(
        self, kind: str, items: Sequence[Values], parse: Callable[[str], _T | None]
    ) -> list[_T | None]:
        """The parsed replies; None, with the reason kept, where there is none."""
        replies = self.complete(kind, items)
        answers = [r if isinstance(r, Failure) else parse(r.text) for r in replies]
        return self.accounted(kind, items, answers)

    def complete(
        self, kind: str, items: Sequence[Values], sample: int = 0
    ) -> list[Completion | Failure]:
        """The raw replies to the question about each item."""
        requests = [self._prompts.request(kind, values, sample) for values in items]
        if not self._progress or not requests:
            return self._chat_model.complete_all(requests)
        meter = self._chat_model.meter
        with self._progress.task(KINDS[kind].title, len(requests)) as task:
            done = 0

            def advance(now: int, _: int) -> None:
                nonlocal done
                task.advance(now - done, meter.note())
                done = now

            replies = self._chat_model.complete_all(requests, advance)
        for sentence in self._chat_model.news_of_terms():
            self._progress.say(sentence)
        return replies

    def accounted(
        self, kind: str, items: Sequence[Values], answers: Sequence[_T | Failure | None]
    ) -> list[_T | None]:
        """The answers with None for failures, which are kept, counted and told.

        Raises:
            ApcError: more than the allowed share failed.
        """
        failed = [
            FailedItem(kind, a.reason, a.temporary, values)
            if isinstance(a, Failure)
            else FailedItem(kind, UNPARSEABLE, False, values)
            for values, a in zip(items, answers, strict=True)
            if a is None or isinstance(a, Failure)
        ]
        self.failures += failed
        if failed:
            self._tell(kind, failed, len(items))
        return [None if isinstance(answer, Failure) else answer for answer in answers]

    def _tell(self, kind: str, failed: Sequence[FailedItem], asked: int) -> None:
        counts = Counter(item.reason for item in failed)
        reasons = ", ".join(f"{count} {reason}" for reason, count in counts.most_common())
        if self._too_many(len(failed), asked):
            waits = sum(item.temporary for item in failed) * 2 > len(failed)
            raise (TryAgainLater if waits else ApcError)(
                f"{len(failed)} of {asked} questions of the kind {kind} have no answer: {reasons}",
                "failures.jsonl lists them; try another teacher.model, or raise teacher.max_failed",
            )
        if self._progress:
            self._progress.say(f"{asked} asked, without an answer: {reasons}")

    def _too_many(self, failed: int, asked: int) -> bool:
        if self._most_failed is None:
            return False
        beyond = failed > self._most_failed * asked
        return failed == asked or (beyond and failed >= _FEWEST_THAT_STOP)
