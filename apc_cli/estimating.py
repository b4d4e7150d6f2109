"""What a run will ask of the LLM, before anything is asked."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from apc_cli.config import Character
from apc_cli.histories import query_in_context
from apc_cli.models.llm.chat_costs import BATCH_DISCOUNT
from apc_cli.models.llm.chat_estimates import input_tokens, tokens_in
from apc_cli.models.llm.chat_replies import Usage
from apc_cli.models.llm.chat_requests import canonical_json, journal_key
from apc_cli.models.llm.journal import Journal
from apc_cli.models.llm.llm_prompts import KINDS, Prompts
from apc_cli.prompts import interview_questions
from apc_cli.records import Item, Query, Statement
from apc_cli.sentences import sentences
from apc_cli.steps.statements import read_paragraphs, read_statements
from apc_cli.teaching import JOURNAL, configured_price, evaluator_model
from apc_cli.workspace import Workspace

_STATEMENTS_PER_SENTENCE = 1.4

_EXAMPLES = 2_000
"""Questions about a file that are looked at one by one; the others are taken to be like them."""


@dataclass(frozen=True)
class Asked:
    """Questions of one kind: how many, their tokens in and out, how many are answered already."""

    stage: str
    kind: str
    count: int
    usage: Usage
    stored: int = 0


class Estimate:
    """The questions of some stages, counted where their inputs are there and guessed elsewhere."""

    def __init__(
        self,
        character: Character,
        source: Path,
        workspace: Workspace,
        stages: Collection[str],
        journal: Journal | None,
    ) -> None:
        self._character, self._source, self._workspace = character, source, workspace
        self._stages = stages
        self._language = character.language
        self._prompts = Prompts(character.language)
        self._journal = journal

    def questions(self) -> Iterator[Asked]:
        """The questions, stage by stage."""
        statements = self._statements()
        taught = self._character.teacher.backend == "openai"
        if taught and "statements" in self._stages and not self._character.persona.statements:
            yield self._of("statements", "extract_statements", self._paragraphs())
        settings = self._character.teacher
        count = str(settings.queries_per_statement)
        if taught and "queries" in self._stages:
            values = [{"statement": text, "count": count} for text in statements]
            yield self._of("queries", "propose_queries", values)
        queries = self._queries(statements)
        if taught and "label-data" in self._stages:
            yield from self._labels(statements, queries)
        if taught and "experience" in self._stages:
            told = "\n".join(f"- {text}" for text in statements[:2])
            values = [{"query": query, "statements": told} for query, _ in queries]
            yield self._of("experience", "write_answer", values)
        if "evaluation" in self._stages and self._character.evaluator.backend == "openai":
            yield from self._evaluation(statements, queries)

    def scoring(self, rows: Iterable[Item]) -> list[Asked]:
        """The questions about the rows of a file; the first ones are counted whole."""
        values: dict[str, list[dict[str, str]]] = {"judge_relevance": [], "judge_nli": []}
        counts, known = Counter[str](), set[int]()
        for row in rows:
            query = query_in_context(row.row["query"], row.row.get("history") or ())
            about = {"character": row.character, "query": query}
            reply = about | {"response": row.row["response"]}
            for kind, told in (("judge_relevance", about), ("judge_nli", reply)):
                key = hash((kind, *told.values(), row.statements))
                if key not in known:  # the same question is asked once
                    known.add(key)
                    counts[kind] += len(row.statements)
                    some = row.statements[: _EXAMPLES - len(values[kind])]
                    values[kind] += [told | {"statement": text} for text in some]
        return [self._of("score", kind, values[kind], counts[kind]) for kind in values]

    def _labels(
        self, statements: Sequence[str], queries: Sequence[tuple[str, str]]
    ) -> Iterator[Asked]:
        settings = self._character.teacher
        own = [{"query": query, "statement": statement} for query, statement in queries]
        others = max(0, len(queries) - settings.queries_per_statement)
        extra = len(statements) * min(settings.other_queries, others)
        yield self._of("label-data", "judge_relevance", own, len(own) + extra)
        yield self._of("label-data", "write_replies", own)
        judged = [values | {"response": _reply(values["statement"])} for values in own]
        extra = len(statements) * min(settings.other_replies, 3 * others)
        yield self._of("label-data", "judge_nli", judged, 3 * len(own) + extra)

    def _evaluation(
        self, statements: Sequence[str], queries: Sequence[tuple[str, str]]
    ) -> Iterator[Asked]:
        settings = self._character.evaluation
        asked = len(interview_questions(self._language)) + settings.held_out_queries
        values = [
            {"query": query, "statement": statement, "response": _reply(statement)}
            for query, statement in queries
        ]
        count = asked * len(statements)
        yield self._of("evaluation", "judge_relevance", values, count)
        systems = 3 if self._character.sft_epochs else 2
        replies = systems * settings.samples_per_query
        yield self._of("evaluation", "judge_nli", values, count * replies)

    def _of(
        self, stage: str, kind: str, values: Sequence[dict[str, str]], count: int | None = None
    ) -> Asked:
        """Questions about these values; where `count` differs, the values are taken as examples."""
        count = len(values) if count is None else count
        if not values:
            return Asked(stage, kind, 0, Usage())
        model = model_of(stage, self._character)
        bodies = [self._body(model, kind, value) for value in values]
        stored = sum(self._is_stored(body) for body in bodies)
        asked = max(0, count - stored)
        tokens = sum(map(input_tokens, bodies)) / len(bodies)
        out = KINDS[kind].usual_tokens
        if kind == "extract_statements":
            out = sum(tokens_in(value["paragraph"]) for value in values) * 1.5 / len(values)
        return Asked(stage, kind, asked, Usage(round(tokens * asked), round(out * asked)), stored)

    def _body(self, model: str, kind: str, values: dict[str, str]) -> str:
        name = self._character.character
        request = self._prompts.request(kind, {"character": name} | values)
        return canonical_json(model, request)

    def _is_stored(self, body: str) -> bool:
        return self._journal is not None and self._journal.get(journal_key(body)) is not None

    def _paragraphs(self) -> list[dict[str, str]]:
        return [{"paragraph": text} for text in read_paragraphs(self._source)]

    def _statements(self) -> list[str]:
        """The statements; before they are made, the sentences of the source, and some more."""
        if "statements" not in self._stages:
            rows = self._workspace.read_rows("statements.jsonl", Statement)
            return [row.statement for row in rows]
        if self._character.persona.statements:
            return read_statements(self._source)
        texts = [s for p in read_paragraphs(self._source) for s in sentences(p, self._language)]
        wanted = round(len(texts) * _STATEMENTS_PER_SENTENCE)
        return [texts[i % len(texts)] for i in range(wanted)]

    def _queries(self, statements: Sequence[str]) -> list[tuple[str, str]]:
        """(query, statement); before they are made, interview questions stand for them."""
        if "queries" not in self._stages and self._workspace.path("queries.jsonl").is_file():
            rows = self._workspace.read_rows("queries.jsonl", Query)
            return [(row.query, row.statement) for row in rows]
        usual = interview_questions(self._language)
        per = self._character.teacher.queries_per_statement
        return [
            (usual[i % len(usual)], s)
            for i, s in enumerate(s for s in statements for _ in range(per))
        ]


def estimate_lines(
    character: Character, source: Path, workspace: Workspace, stages: Collection[str]
) -> list[str]:
    """The estimate as lines: one a stage, then the total with its price."""
    with _journal(workspace) as journal:
        estimate = Estimate(character, source, workspace, stages, journal)
        return _lines(character, list(estimate.questions()))


def scoring_lines(character: Character, workspace: Workspace, rows: Iterable[Item]) -> list[str]:
    """The same lines for `apc score` of these rows."""
    with _journal(workspace) as journal:
        estimate = Estimate(character, Path(), workspace, ("score",), journal)
        return _lines(character, estimate.scoring(rows))


def _journal(workspace: Workspace) -> AbstractContextManager[Journal | None]:
    path = workspace.path(JOURNAL)
    return Journal(path) if path.is_file() else nullcontext()


def _lines(character: Character, asked: Sequence[Asked]) -> list[str]:
    questions = [question for question in asked if question.count]
    if not questions:
        return []
    lines = [
        f"  {q.stage}, {q.kind}: about {q.count} requests, {q.usage.input:,} tokens in, "
        f"{q.usage.output:,} out" + (f"; {q.stored} more are stored" if q.stored else "")
        for q in questions
    ]
    requests = sum(q.count for q in questions)
    dollars = _dollars(character, questions)
    price = "price unknown" if dollars is None else f"${dollars:.4f}"
    lines.append(f"estimate: about {requests} requests, {price}")
    judged = sum(q.count for q in questions if KINDS[q.kind].alternatives)
    samples = character.teacher.label_samples
    if judged and samples > 1:
        lines.append(f"  without log-probabilities: up to {judged * samples} more, to draw labels")
    return lines


def _dollars(character: Character, questions: Sequence[Asked]) -> float | None:
    total = 0.0
    for question in questions:
        price = configured_price(character, model_of(question.stage, character))
        if price is None:
            return None
        total += price.of(question.usage)
    return total * (BATCH_DISCOUNT if character.teacher.batch else 1.0)


def model_of(stage: str, character: Character) -> str:
    """The name of the LLM that a stage asks."""
    measures = stage in ("evaluation", "score")
    return evaluator_model(character) if measures else character.teacher.model


def _reply(statement: str) -> str:
    """A reply of a usual length."""
    return statement + statement[: len(statement) // 2]
