"""A teacher that is a large language model behind an API."""

from collections.abc import Sequence

from apc_cli.models.llm.chat_estimates import tokens_in
from apc_cli.models.llm.llm_asking import Asker
from apc_cli.models.llm.llm_judge import Judge
from apc_cli.models.llm.llm_parsers import (
    names,
    parse_answer,
    parse_queries,
    parse_replies,
    parse_statements,
)
from apc_cli.records import Judgement, NliItem, RelevanceItem
from apc_cli.sentences import parts, sentences

_LONGEST_PART = 800
"""Tokens of a paragraph that are asked about at once."""


class LlmTeacher:
    """Implements `Teacher` with prompts from `prompts/<language>.yaml`."""

    def __init__(self, asker: Asker, language: str, label_samples: int = 1) -> None:
        """`label_samples` answers are drawn for a judgement without log-probabilities."""
        self._asker, self._language = asker, language
        self._judge = Judge(asker, label_samples)

    def extract_statements(
        self, character: str, paragraphs: Sequence[str]
    ) -> list[list[str] | None]:
        """Atomic persona statements of each paragraph, each naming the character.

        A long paragraph is asked about in parts; it has no answer where none of them has.
        """
        texts = [parts(text, self._language, _LONGEST_PART, tokens_in) for text in paragraphs]
        items = [{"character": character, "paragraph": part} for cut in texts for part in cut]
        answers = iter(
            self._asker.ask(
                "extract_statements", items, lambda text: parse_statements(text, character)
            )
        )
        found = [[next(answers) for _ in cut] for cut in texts]
        return [
            [
                s
                for part in answered or ()
                for text in part or ()
                for s in self._atomic(text, character)
            ]
            if any(part is not None for part in answered)
            else None
            for answered in found
        ]

    def _atomic(self, statement: str, character: str) -> list[str]:
        """The sentences of a statement, if each can stand on its own."""
        found = sentences(statement, self._language)
        return found if all(names(sentence, character) for sentence in found) else [statement]

    def propose_queries(
        self, character: str, statements: Sequence[str], count: int
    ) -> list[list[str] | None]:
        """Up to `count` short user utterances for each statement that its information answers."""
        items = [
            {"character": character, "statement": statement, "count": str(count)}
            for statement in statements
        ]
        return self._asker.ask("propose_queries", items, lambda text: parse_queries(text, count))

    def judge_relevance(
        self, character: str, items: Sequence[RelevanceItem]
    ) -> list[Judgement | None]:
        """P(label) for each item, in the order of RELEVANCE_LABELS."""
        return self._judge.relevance(
            [
                {"character": character, "statement": item.statement, "query": item.query}
                for item in items
            ]
        )

    def write_replies(
        self, character: str, pairs: Sequence[tuple[str, str]]
    ) -> list[dict[str, str] | None]:
        """For each (statement, query): one reply per NLI label, keyed by label."""
        items = [
            {"character": character, "statement": statement, "query": query}
            for statement, query in pairs
        ]
        return self._asker.ask("write_replies", items, parse_replies)

    def write_answers(
        self, character: str, items: Sequence[tuple[str, Sequence[str]]]
    ) -> list[str | None]:
        """For each (query, statements): one reply in character that tells all the statements."""
        values = [
            {
                "character": character,
                "query": query,
                "statements": "\n".join(f"- {statement}" for statement in statements),
            }
            for query, statements in items
        ]
        return self._asker.ask("write_answer", values, parse_answer)

    def judge_nli(self, character: str, items: Sequence[NliItem]) -> list[Judgement | None]:
        """P(label) for each item, in the order of NLI_LABELS."""
        return self._judge.nli(
            [
                {
                    "character": character,
                    "statement": item.statement,
                    "query": item.query,
                    "response": item.response,
                }
                for item in items
            ]
        )
