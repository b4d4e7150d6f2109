"""The teacher's questions: their texts from `prompts/<language>.yaml`, and how they are sampled."""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import yaml

import apc_cli
from apc_cli.errors import ConfigError
from apc_cli.models.llm.chat_requests import ChatRequest

ALTERNATIVES = 20
"""Tokens beside the chosen one whose probabilities a judgement comes with."""
_DENSE = r"\u3001-\u30ff\u3400-\u9fff\uff0c\uff1b"


def _texts(name: str) -> dict[str, Any]:
    """The JSON schema of an object with one list of texts."""
    return _object({name: {"type": "array", "items": {"type": "string"}}})


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


@dataclass(frozen=True)
class Kind:
    """A kind of question: how it is sampled, and how long its reply usually is in tokens."""

    title: str
    temperature: float
    max_tokens: int
    usual_tokens: int
    schema: Mapping[str, Any] | None = None
    alternatives: int = 0


_REPLIES = ("shared", "entailed", "neutral", "contradicted")
KINDS = {
    "extract_statements": Kind("Extracting statements", 0.0, 4096, 130, _texts("statements")),
    "propose_queries": Kind("Writing queries", 1.0, 1024, 50, _texts("queries")),
    "judge_relevance": Kind("Judging relevance", 0.0, 1024, 1, alternatives=ALTERNATIVES),
    "write_replies": Kind(
        "Writing replies", 1.0, 2048, 160,
        _object({name: {"type": "string"} for name in _REPLIES}),
    ),
    "write_answer": Kind("Writing faithful answers", 1.0, 1024, 40),
    "judge_nli": Kind("Judging replies", 0.0, 1024, 3, alternatives=ALTERNATIVES),
}  # fmt: skip
"""Temperatures as in the paper (section 4.1). A reply may be longer where a model thinks first."""


class Prompts:
    """The questions of one language."""

    def __init__(self, language: str) -> None:
        """Reads them.

        Raises:
            ConfigError: there are none in the language.
        """
        self._turns = _load(language)

    def request(self, kind: str, values: Mapping[str, str], sample: int = 0) -> ChatRequest:
        """The question about these values; samples from 1 on are drawn at temperature 1."""
        how = KINDS[kind]
        messages = tuple(
            {"role": role, "content": text.substitute(values).strip()}
            for role, text in self._turns[kind]
        )
        return ChatRequest(
            messages,
            temperature=1.0 if sample else how.temperature,
            max_tokens=how.max_tokens,
            sample_index=sample,
            schema=how.schema,
            top_logprobs=0 if sample else how.alternatives,
        )


@functools.cache
def _load(language: str) -> dict[str, tuple[tuple[str, Template], ...]]:
    path = Path(apc_cli.__file__).parent / "prompts" / f"{language}.yaml"
    if not path.is_file():
        raise ConfigError(
            f"there are no prompts for an LLM teacher in the language '{language}'",
            "there are some in en, ja and zh",
        )
    entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {
        kind: tuple((turn["role"], Template(_unwrapped(turn["content"]))) for turn in turns)
        for kind, turns in entries.items()
    }


def _unwrapped(text: str) -> str:
    """Lines of Chinese and Japanese prose are wrapped in the file; there it takes no space."""
    return re.sub(rf"(?<=[{_DENSE}])\n *(?=[{_DENSE}])", "", text)
