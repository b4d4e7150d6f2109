"""The teacher that needs no model: it writes and judges training data by rules of English."""

from collections.abc import Sequence

from apc_cli.models.rules.answers import answer_for
from apc_cli.models.rules.judging import is_relevant, said_of
from apc_cli.models.rules.pronouns import Pronouns, pronouns_in
from apc_cli.models.rules.questions import questions_for
from apc_cli.models.rules.replies import replies_for
from apc_cli.models.rules.sentences import statements_of
from apc_cli.records import (
    NLI_LABELS,
    RELEVANCE_LABELS,
    Judgement,
    NliItem,
    RelevanceItem,
)


class RuleTeacher:
    """A `Teacher` whose answers depend on the seed and its inputs alone.

    A batch only decides which pronouns the character has, which questions are taken already and
    which other facts there are; all else about an item comes from a hash of the item's own text.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def extract_statements(
        self, character: str, paragraphs: Sequence[str]
    ) -> list[list[str] | None]:
        return list(statements_of(character, paragraphs))

    def propose_queries(
        self, character: str, statements: Sequence[str], count: int
    ) -> list[list[str] | None]:
        own = pronouns_in(character, statements)
        taken: set[str] = set()
        return [
            questions_for(statement, character, own, count, self._seed, taken)
            for statement in statements
        ]

    def judge_relevance(
        self, character: str, items: Sequence[RelevanceItem]
    ) -> list[Judgement | None]:
        own = pronouns_in(character, [item.statement for item in items])
        return [_one_hot(RELEVANCE_LABELS, _relevance(item, character, own)) for item in items]

    def write_replies(
        self, character: str, pairs: Sequence[tuple[str, str]]
    ) -> list[dict[str, str] | None]:
        statements = list(dict.fromkeys(statement for statement, _ in pairs))
        own = pronouns_in(character, statements)
        return [
            replies_for(statement, query, character, own, self._seed, statements)
            for statement, query in pairs
        ]

    def write_answers(
        self, character: str, items: Sequence[tuple[str, Sequence[str]]]
    ) -> list[str | None]:
        told = dict.fromkeys(statement for _, statements in items for statement in statements)
        own = pronouns_in(character, list(told))
        return [
            answer_for(query, statements, character, own, self._seed) if statements else None
            for query, statements in items
        ]

    def judge_nli(self, character: str, items: Sequence[NliItem]) -> list[Judgement | None]:
        own = pronouns_in(character, [item.statement for item in items])
        return [_one_hot(NLI_LABELS, self._said(item, character, own)) for item in items]

    def _said(self, item: NliItem, character: str, own: Pronouns | None) -> str:
        if item.statement == item.written_for:
            return item.written_as
        return said_of(item.statement, item.response, character, own, self._seed)


def _relevance(item: RelevanceItem, character: str, own: Pronouns | None) -> str:
    if item.statement == item.asked_of:
        return "yes"
    return "yes" if is_relevant(item.statement, item.query, character, own) else "no"


def _one_hot(labels: Sequence[str], label: str) -> Judgement:
    return Judgement(tuple(float(candidate == label) for candidate in labels), "rules")
