"""A teacher that is a large language model behind an API."""

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import TypeVar

import yaml

import apc_cli
from apc_cli.errors import ConfigError
from apc_cli.models.chat_model import ChatModel
from apc_cli.models.chat_outcomes import Failure
from apc_cli.models.chat_requests import ChatRequest
from apc_cli.models.llm_parsers import (
    parse_answer,
    parse_nli,
    parse_queries,
    parse_relevance,
    parse_replies,
    parse_statements,
)
from apc_cli.progress import Progress
from apc_cli.records import (
    NLI_LABELS,
    RELEVANCE_LABELS,
    NliItem,
    Probabilities,
    RelevanceItem,
)

UNPARSEABLE = "the reply could not be read"

_T = TypeVar("_T")


@dataclass(frozen=True)
class _Prompt:
    """A question with places to fill in, and how it is sampled."""

    turns: tuple[tuple[str, Template], ...]
    temperature: float
    max_tokens: int

    def request(self, **values: str) -> ChatRequest:
        messages = tuple(
            {"role": role, "content": text.substitute(values).strip()} for role, text in self.turns
        )
        return ChatRequest(messages, self.temperature, self.max_tokens)


class LlmTeacher:
    """Implements `Teacher` with prompts from `prompts/<language>.yaml`.

    How often which reason left items without an answer is told to `progress` after each batch.
    """

    def __init__(
        self, chat_model: ChatModel, language: str, progress: Progress | None = None
    ) -> None:
        """Reads the prompts; nothing is asked yet.

        Raises:
            ConfigError: there are no prompts in the language.
        """
        self._chat_model = chat_model
        self._prompts = _load_prompts(language)
        self._progress = progress

    def extract_statements(
        self, character: str, paragraphs: Sequence[str]
    ) -> list[list[str] | None]:
        """Atomic persona statements of each paragraph, each naming the character."""
        prompt = self._prompts["extract_statements"]
        requests = [prompt.request(character=character, paragraph=text) for text in paragraphs]
        return self._ask(requests, lambda text: parse_statements(text, character))

    def propose_queries(
        self, character: str, statements: Sequence[str], count: int
    ) -> list[list[str] | None]:
        """Up to `count` short user utterances for each statement that its information answers."""
        prompt = self._prompts["propose_queries"]
        requests = [
            prompt.request(character=character, statement=statement, count=str(count))
            for statement in statements
        ]
        return self._ask(requests, lambda text: parse_queries(text, count))

    def judge_relevance(
        self, character: str, items: Sequence[RelevanceItem]
    ) -> list[Probabilities | None]:
        """P(label) for each item, in the order of RELEVANCE_LABELS: certainty for one label."""
        prompt = self._prompts["judge_relevance"]
        requests = [
            prompt.request(character=character, statement=item.statement, query=item.query)
            for item in items
        ]
        return [_one_hot(a, RELEVANCE_LABELS) for a in self._ask(requests, parse_relevance)]

    def write_replies(
        self, character: str, pairs: Sequence[tuple[str, str]]
    ) -> list[dict[str, str] | None]:
        """For each (statement, query): one reply per NLI label, keyed by label."""
        prompt = self._prompts["write_replies"]
        requests = [
            prompt.request(character=character, statement=statement, query=query)
            for statement, query in pairs
        ]
        return self._ask(requests, parse_replies)

    def write_answers(
        self, character: str, items: Sequence[tuple[str, Sequence[str]]]
    ) -> list[str | None]:
        """For each (query, statements): one reply in character that tells all the statements."""
        prompt = self._prompts["write_answer"]
        requests = [
            prompt.request(
                character=character,
                query=query,
                statements="\n".join(f"- {statement}" for statement in statements),
            )
            for query, statements in items
        ]
        return self._ask(requests, parse_answer)

    def judge_nli(self, character: str, items: Sequence[NliItem]) -> list[Probabilities | None]:
        """P(label) for each item, in the order of NLI_LABELS: certainty for one label."""
        prompt = self._prompts["judge_nli"]
        requests = [
            prompt.request(
                character=character,
                statement=item.statement,
                query=item.query,
                response=item.response,
            )
            for item in items
        ]
        return [_one_hot(label, NLI_LABELS) for label in self._ask(requests, parse_nli)]

    def _ask(
        self, requests: Sequence[ChatRequest], parse: Callable[[str], _T | None]
    ) -> list[_T | None]:
        """The parsed replies; None, with the reasons counted and told, where there is none."""
        answers: list[_T | None] = []
        failures: Counter[str] = Counter()
        for reply in self._chat_model.complete_all(requests):
            answer = None if isinstance(reply, Failure) else parse(reply)
            if answer is None:
                failures[reply.reason if isinstance(reply, Failure) else UNPARSEABLE] += 1
            answers.append(answer)
        if failures and self._progress:
            reasons = ", ".join(f"{count} {reason}" for reason, count in failures.most_common())
            self._progress.say(f"{len(requests)} asked, without an answer: {reasons}")
        return answers


def _one_hot(label: str | None, labels: Sequence[str]) -> Probabilities | None:
    if label is None:
        return None
    return tuple(float(label == other) for other in labels)


@functools.cache
def _load_prompts(language: str) -> dict[str, _Prompt]:
    path = Path(apc_cli.__file__).parent / "prompts" / f"{language}.yaml"
    if not path.is_file():
        raise ConfigError(
            f"there are no prompts for an LLM teacher in the language '{language}' yet",
            "English (en) has them",
        )
    entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {
        name: _Prompt(
            tuple((turn["role"], Template(turn["content"])) for turn in entry["messages"]),
            entry["temperature"],
            entry["max_tokens"],
        )
        for name, entry in entries.items()
    }
