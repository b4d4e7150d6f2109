"""Every text that a discriminator or a role-play model is shown.

The discriminators' input is split in two, `prefix` + `branch`: the prefix is the part that all
statements share, so that a decoder reads it once for all of them. Joined, the parts are the text.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

from apc_cli.files.yaml_files import read_mapping
from apc_cli.records import Message

INSTRUCTION_LANGUAGES = ("en", "ja", "zh")
InputStyle = Literal["released", "statement-last"]


class Prompt(NamedTuple):
    """A prefix and its continuations; text i is `prefix + branches[i]`."""

    prefix: str
    branches: tuple[str, ...]


_RELEVANCE_QUESTION = (
    "Does this user utterance should be responded by including the information in the given "
    'persona statement? Only answer "yes" or "no" without any explanation.'
)
_NLI_QUESTION = (
    "For this response, is the given persona entailed, neutral, or contradict to it in natural "
    'language inference? Only answer "entailed", "neutral" or "contradict" without any explanation.'
)


def relevance_text(character: str, statement: str, query: str) -> str:
    """The input text of the released relevance discriminators, to the byte."""
    return (
        f"Character: {character}\n    \nPersona Statement: {statement}\n\n"
        f"User Utterance: {query}\n\n{_RELEVANCE_QUESTION}"
    )


def nli_text(character: str, statement: str, query: str, response: str) -> str:
    """The input text of the released NLI discriminators, to the byte."""
    return (
        f"Character: {character}\n    \nPersona Statement: {statement}\n\n"
        f"User Utterance: {query}\n\nResponse: {response}\n\n{_NLI_QUESTION}"
    )


def relevance_prompt(
    style: InputStyle, character: str, statements: Sequence[str], query: str
) -> Prompt:
    """Asks, for each statement, whether it is relevant to the query."""
    if style == "released":
        return Prompt("", tuple(relevance_text(character, s, query) for s in statements))
    branches = tuple(f"Fact: {statement}\nAsked about:" for statement in statements)
    return Prompt(f"Somebody asks {character}: {query}\n", branches)


def nli_prompt(
    style: InputStyle, character: str, statements: Sequence[str], query: str, response: str
) -> Prompt:
    """Asks, for each statement, what the reply says of it."""
    if style == "released":
        return Prompt("", tuple(nli_text(character, s, query, response) for s in statements))
    branches = tuple(f"Fact: {statement}\nVerdict:" for statement in statements)
    return Prompt(
        f"Somebody asks {character}: {query}\n{character} answers: {response}\n", branches
    )


def role_play_messages(
    language: str,
    character: str,
    statements: Sequence[str],
    query: str,
    history: Sequence[Message] = (),
) -> list[Message]:
    """The conversation that asks a role-play model to answer `query` as the character."""
    facts = "\n".join(statements)
    instruction = role_play_instruction(language, character)
    system = f"{facts}\n\n{instruction}" if facts else instruction
    turns = [*history, {"role": "user", "content": query}]
    return [{"role": "system", "content": system}, *turns]


def role_play_instruction(language: str, character: str) -> str:
    """What the role-play model is told after the facts."""
    return str(_role_play(language)["instruction"]).format(character=character)


def interview_questions(language: str) -> list[str]:
    """One question for each of the ten interview topics of the paper."""
    return list(_role_play(language)["interview"])


@cache
def _role_play(language: str) -> dict[str, Any]:
    """The role-play texts of a language."""
    return dict(read_mapping(Path(__file__).parent / "prompts" / "role_play.yaml")[language])
