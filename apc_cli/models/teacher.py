"""What every teacher answers: an LLM behind an API and the rule-based one alike.

Methods take whole batches so that an LLM teacher can ask for many things at once. An answer that
could not be had is None in its place; the caller counts and reports it.
"""

from collections.abc import Sequence
from typing import Protocol

from apc_cli.records import Judgement, NliItem, RelevanceItem


class Teacher(Protocol):
    """Writes and judges the data that discriminators are trained on (paper section 4.1)."""

    def extract_statements(
        self, character: str, paragraphs: Sequence[str]
    ) -> list[list[str] | None]:
        """Atomic persona statements of each paragraph, each naming the character."""

    def propose_queries(
        self, character: str, statements: Sequence[str], count: int
    ) -> list[list[str] | None]:
        """Up to `count` short user utterances for each statement that its information answers."""

    def judge_relevance(
        self, character: str, items: Sequence[RelevanceItem]
    ) -> list[Judgement | None]:
        """P(label) for each item, in the order of RELEVANCE_LABELS."""

    def write_replies(
        self, character: str, pairs: Sequence[tuple[str, str]]
    ) -> list[dict[str, str] | None]:
        """For each (statement, query): one reply per NLI label, keyed by label."""

    def write_answers(
        self, character: str, items: Sequence[tuple[str, Sequence[str]]]
    ) -> list[str | None]:
        """For each (query, statements): one reply in character that tells all the statements."""

    def judge_nli(self, character: str, items: Sequence[NliItem]) -> list[Judgement | None]:
        """P(label) for each item, in the order of NLI_LABELS."""
