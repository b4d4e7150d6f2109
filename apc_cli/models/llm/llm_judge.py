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
        found = [_from_tokens(question, *pair) for pair in zip(replies, answers, strict=True)]
        unsure = [
            i for i, answer in enumerate(answers) if isinstance(answer, str) and found[i] is None
        ]
        votes = self._votes(question, [items[i] for i in unsure])
        for i, counted in zip(unsure, votes, strict=True):
            source: LabelSource = "samples" if counted else "answer"
            found[i] = _shares(question, counted or Counter([answers[i]]), source)
        failures = [a if isinstance(a, Failure) else None for a in answers]
        return self._asker.accounted(
            question.kind, items, [f or failures[i] for i, f in enumerate(found)]
        )

    def _votes(self, question: _Question, items: Sequence[Values]) -> list[Counter[str]]:
        """How often each label was drawn for each item."""
        votes: list[Counter[str]] = [Counter() for _ in items]
        if self._samples < 2 or not items:
            return votes
        for sample in range(1, self._samples + 1):
            replies = self._asker.complete(question.kind, items, sample)
            for counted, reply in zip(votes, replies, strict=True):
                answer = _answer(question, reply)
                if isinstance(answer, str):
                    counted[answer] += 1
        return votes


def _answer(question: _Question, reply: Completion | Failure) -> str | Failure | None:
    return reply if isinstance(reply, Failure) else question.parse(reply.text)


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
