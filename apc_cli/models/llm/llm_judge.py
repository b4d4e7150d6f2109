"""An LLM's judgements as probabilities: from the odds of its answer's tokens, else from samples."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from apc_cli.models.llm.chat_replies import Completion, Failure, label_probabilities
from apc_cli.models.llm.llm_asking import Asker, Values
from apc_cli.models.llm.llm_labels import NLI_WORDS, RELEVANCE_WORDS, parse_nli, parse_relevance
from apc_cli.records import NLI_LABELS, RELEVANCE_LABELS, Judgement, LabelSource


@dataclass(frozen=True)
class _Question:
    kind: str
    labels: tuple[str, ...]
    words: Mapping[str, Sequence[str]]
    parse: Callable[[str], str | None]


_RELEVANCE = _Question("judge_relevance", RELEVANCE_LABELS, RELEVANCE_WORDS, parse_relevance)
_NLI = _Question("judge_nli", NLI_LABELS, NLI_WORDS, parse_nli)


class Judge:
    """Judges relevance and NLI with probabilities, from the best source that the server offers.

    Log-probabilities of the answer's first token where the server gives them; else the shares of
    `samples` answers drawn at temperature 1; else certainty for the answer at temperature 0.
    Answers are drawn, too, where the one at temperature 0 is stored and says nothing.
    """

    def __init__(self, asker: Asker, samples: int) -> None:
        """With `samples` 1, nothing is drawn where there are no log-probabilities."""
        self._asker, self._samples = asker, samples

    def relevance(self, items: Sequence[Values]) -> list[Judgement | None]:
        """P(label) for each {character, statement, query}, in the order of RELEVANCE_LABELS."""
        return self._judge(_RELEVANCE, items)

    def nli(self, items: Sequence[Values]) -> list[Judgement | None]:
        """P(label) for each {character, statement, query, response}, as NLI_LABELS."""
        return self._judge(_NLI, items)

    def _judge(self, question: _Question, items: Sequence[Values]) -> list[Judgement | None]:
        replies = self._asker.complete(question.kind, items)
        answers = [_answer(question, reply) for reply in replies]
        found: list[Judgement | Failure | None] = [
            _from_tokens(question, *pair) for pair in zip(replies, answers, strict=True)
        ]
        unsure = [i for i, a in enumerate(answers) if found[i] is None and _may_be_drawn(a)]
        votes = self._votes(question, [items[i] for i in unsure])
        for i, drawn in zip(unsure, votes, strict=True):
            found[i] = _verdict(question, answers[i], drawn)
        failures = [a if isinstance(a, Failure) else None for a in answers]
        return self._asker.accounted(
            question.kind, items, [f or failures[i] for i, f in enumerate(found)]
        )

    def _votes(self, question: _Question, items: Sequence[Values]) -> list[Counter[str] | Failure]:
        """How often each label was drawn for each item; a Failure where draws are still to come."""
        votes: list[Counter[str]] = [Counter() for _ in items]
        passing: dict[int, Failure] = {}
        if self._samples < 2 or not items:
            return list(votes)
        for sample in range(1, self._samples + 1):
            replies = self._asker.complete(question.kind, items, sample)
            for i, reply in enumerate(replies):
                answer = _answer(question, reply)
                if isinstance(answer, str):
                    votes[i][answer] += 1
                elif isinstance(answer, Failure) and answer.temporary:
                    passing[i] = answer
        return [passing.get(i, counted) for i, counted in enumerate(votes)]


def _answer(question: _Question, reply: Completion | Failure) -> str | Failure | None:
    return reply if isinstance(reply, Failure) else question.parse(reply.text)


def _may_be_drawn(answer: str | Failure | None) -> bool:
    """Also what a stored reply leaves open: asking the same again would only give it again."""
    return answer.stored if isinstance(answer, Failure) else True


def _verdict(
    question: _Question, answer: str | Failure | None, drawn: Counter[str] | Failure
) -> Judgement | Failure | None:
    """The shares of the draws; without any, certainty for the answer, if there is one."""
    if isinstance(drawn, Failure):
        return drawn
    if drawn:
        return _shares(question, drawn, "samples")
    return _shares(question, Counter([answer]), "answer") if isinstance(answer, str) else None


def _from_tokens(
    question: _Question, reply: Completion | Failure, answer: str | Failure | None
) -> Judgement | None:
    if not isinstance(reply, Completion) or not isinstance(answer, str):
        return None
    found = label_probabilities(reply.tokens, answer, question.words)
    if found is None:
        return None
    return Judgement(tuple(round(found[label], 6) for label in question.labels), "logprobs")


def _shares(question: _Question, votes: Counter[str], source: LabelSource) -> Judgement:
    total = votes.total()
    return Judgement(tuple(votes[label] / total for label in question.labels), source)
