"""The records that travel between stages, and the label order that every module derives from."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

RELEVANCE_LABELS = ("no", "yes")
NLI_LABELS = ("contradicted", "neutral", "entailed")

SURE_FROM = 0.8
"""How probable a label must be for a verdict to be sure, where no held-out rows tell better."""

READING = 2
"""Raised when the same judges say something else of the same text: what they said is made anew."""

Probabilities = tuple[float, ...]
LabelSource = Literal["rules", "logprobs", "samples", "answer"]
"""Where the probabilities of a label come from: rules, an LLM's log-probabilities, the shares of
several drawn answers, or one answer alone."""
Message = dict[str, str]
"""One chat turn: {"role": "system" | "user" | "assistant", "content": text}."""


@dataclass(frozen=True)
class Statement:
    """An atomic persona statement and the wiki paragraph it was taken from."""

    statement: str
    source: str = ""


@dataclass(frozen=True)
class Query:
    """A user utterance written so that its answer must include `statement`."""

    query: str
    statement: str


@dataclass(frozen=True)
class RelevanceItem:
    """A question for the teacher: is `statement` relevant to a query written for `asked_of`?"""

    statement: str
    query: str
    asked_of: str


@dataclass(frozen=True)
class NliItem:
    """A question for the teacher: what does the reply say of `statement`?

    `written_for` and `written_as` tell which statement and label the reply was written for;
    a teacher that can read ignores them.
    """

    statement: str
    query: str
    response: str
    written_for: str
    written_as: str


@dataclass(frozen=True)
class Judgement:
    """A teacher's P(label), in the order of the labels, and where it comes from."""

    probabilities: Probabilities
    source: LabelSource


@dataclass(frozen=True)
class RelevanceExample:
    """A judged RelevanceItem; `probabilities` follow RELEVANCE_LABELS."""

    statement: str
    query: str
    asked_of: str
    label: str
    probabilities: Probabilities
    source: LabelSource = "answer"


@dataclass(frozen=True)
class NliExample:
    """A judged NliItem; `probabilities` follow NLI_LABELS."""

    statement: str
    query: str
    response: str
    written_for: str
    written_as: str
    label: str
    probabilities: Probabilities
    source: LabelSource = "answer"


@dataclass(frozen=True)
class Experience:
    """A query and a faithful reply to it that tells `statements` (paper section 4.2)."""

    query: str
    statements: Sequence[str]
    response: str


@dataclass(frozen=True)
class Constraint:
    """What one persona statement asked of one reply, and how far the reply honoured it.

    `sure` is false where a discriminator's likeliest label is less probable than it must be to be
    right in 95% of held-out rows: there it abstains, and its verdict alone says little.
    """

    statement: str
    relevance: float
    contradicted: float
    neutral: float
    entailed: float
    satisfaction: float
    violation: Literal["active", "passive"] | None
    sure: bool = True


@dataclass(frozen=True)
class Score:
    """The APC score of one reply (paper section 3), in expected satisfied constraints.

    `interval` is the 95% interval of the satisfied constraints, by the discriminators' own doubt.
    `judged` is the number of statements that a filter left to the discriminators.
    """

    apc: float
    delta: float
    active_reward: float
    passive_penalty: float
    interval: tuple[int, int]
    constraints: tuple[Constraint, ...] = field(repr=False)
    judged: int | None = None

    def row(self, *, explain: bool = False) -> dict[str, Any]:
        """The score as the keys that `apc score` adds to an input row."""
        summary = {
            "score": self.apc,
            "delta": self.delta,
            "active_reward": self.active_reward,
            "passive_penalty": self.passive_penalty,
            "interval": list(self.interval),
            "statements": len(self.constraints),
            "unsure": sum(not constraint.sure for constraint in self.constraints),
        }
        if self.judged is not None:
            summary["judged"] = self.judged
        row: dict[str, Any] = {"apc": {key: _rounded(value) for key, value in summary.items()}}
        if explain:
            row["constraints"] = [
                {key: _rounded(value) for key, value in asdict(constraint).items()}
                for constraint in self.constraints
            ]
        return row


@dataclass(frozen=True)
class Item:
    """A row to score: who speaks, and the persona statements; or why it cannot be scored."""

    row: dict[str, Any]
    character: str
    statements: tuple[str, ...]
    error: str | None = None


@dataclass(frozen=True)
class Violation:
    """A statement that a reply does not honour; `cost` is 1 − P(s), in constraints."""

    statement: str
    kind: Literal["active", "passive"]
    cost: float


@dataclass(frozen=True)
class JudgedReply:
    """A reply, what the evaluator says of it, and its mean NLL per token under the base model.

    `nll` is None for a model behind a server, which does not tell it.
    `source` tells where the query is from; `violations` are Violations as mappings.
    """

    query: str
    source: str
    reply: str
    nll: float | None
    apc: float
    active_reward: float
    passive_penalty: float
    violations: Sequence[dict[str, Any]]

    @property
    def delta(self) -> float:
        """ΔAPC."""
        return self.active_reward - self.passive_penalty

    def count(self, kind: str) -> int:
        """How many violations of a kind there are."""
        return sum(found["kind"] == kind for found in self.violations)


@dataclass(frozen=True)
class SampledReplies:
    """Replies sampled for one query, the conversation they answer, and their APC scores.

    `cut` marks the replies that reached the longest length allowed.
    """

    query: str
    prompt: Sequence[Message]
    responses: Sequence[str]
    scores: Sequence[float]
    cut: Sequence[bool] = ()


@dataclass(frozen=True)
class PreferencePair:
    """One row in TRL's conversational preference format, with both APC scores kept beside it."""

    prompt: Sequence[Message]
    chosen: Sequence[Message]
    rejected: Sequence[Message]
    score_chosen: float
    score_rejected: float


@dataclass(frozen=True)
class Summary:
    """What a stage did: how many items it kept, how many it dropped and why, and its figures.

    `cost` is what it asked of an LLM, `retry` how many items failed for a passing reason.
    """

    kept: int
    dropped: dict[str, int] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)
    cost: dict[str, Any] = field(default_factory=dict)
    failed: int = 0
    retry: int = 0


def _rounded(value: Any) -> Any:
    return round(value, 6) if isinstance(value, float) else value
