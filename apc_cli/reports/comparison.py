"""Judged replies become the figures of a comparison: means, intervals, tests, worst violations."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from apc_cli.records import JudgedReply
from apc_cli.reports.statistics import bootstrap_interval, holm, paired_gain
from apc_cli.reports.style import FLAWS, distinct_2, flaws, length

Measure = Callable[[JudgedReply], float]
MEASURES: dict[str, Measure] = {
    "delta": lambda reply: reply.delta,
    "active_reward": lambda reply: reply.active_reward,
    "passive_penalty": lambda reply: reply.passive_penalty,
    "active_violations": lambda reply: reply.count("active"),
    "passive_violations": lambda reply: reply.count("passive"),
}
"""What has a mean over replies and an interval over queries."""

_WORST = 10


@dataclass(frozen=True)
class Step:
    """Two systems whose difference is one step of training."""

    before: str
    after: str


def comparison(
    character: str,
    judged: Mapping[str, Sequence[JudgedReply]],
    baseline: str,
    steps: Sequence[Step],
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """The figures of all systems, of each against the baseline, and of each step of training.

    The p-values of each family of tests are corrected for their number by Holm's method.
    """
    deltas = {name: _query_means(replies, MEASURES["delta"]) for name, replies in judged.items()}

    def tests(pairs: Sequence[Step]) -> list[dict[str, Any]]:
        gains = [paired_gain(deltas[p.before], deltas[p.after], resamples, seed) for p in pairs]
        corrected = holm([gain.p for gain in gains])
        return [
            {"before": pair.before, "after": pair.after, "delta": round(gain.delta, 4),
             "ci95": [round(x, 4) for x in gain.ci95], "p": round(gain.p, 5),
             "p_holm": round(adjusted, 5)}
            for pair, gain, adjusted in zip(pairs, gains, corrected, strict=True)
        ]  # fmt: skip

    return {
        "systems": {
            name: _figures(character, replies, resamples, seed) for name, replies in judged.items()
        },
        "baseline": baseline,
        "against_baseline": tests([Step(baseline, name) for name in judged if name != baseline]),
        "training": tests(steps),
        "worst_violations": {name: _worst(replies) for name, replies in judged.items()},
    }


def _figures(
    character: str, replies: Sequence[JudgedReply], resamples: int, seed: int
) -> dict[str, Any]:
    texts = [row.reply for row in replies]
    problems = [flaws(text, character) for text in texts]
    nll = [row.nll for row in replies]
    figures: dict[str, Any] = {"replies": len(replies), "apc": _mean(r.apc for r in replies)}
    for name, measure in MEASURES.items():
        low, high = bootstrap_interval(_query_means(replies, measure), resamples, seed)
        figures[name] = _mean(map(measure, replies))
        figures[f"{name}_ci95"] = [round(low, 4), round(high, 4)]
    sources = sorted({row.source for row in replies})
    return figures | {
        "words": _mean(map(length, texts)),
        "nll_per_token": None if None in nll else _mean(nll),
        "distinct_2": round(distinct_2(texts), 4),
        "share": {kind: _mean(float(kind in found) for found in problems) for kind in FLAWS},
        "delta_by_source": {
            source: _mean(row.delta for row in replies if row.source == source)
            for source in sources
        },
    }


def _query_means(replies: Sequence[JudgedReply], measure: Measure) -> list[float]:
    """The mean of each query's replies, in the order of the queries."""
    groups: dict[str, list[float]] = {}
    for row in replies:
        groups.setdefault(row.query, []).append(float(measure(row)))
    return [sum(group) / len(group) for group in groups.values()]


def _worst(replies: Sequence[JudgedReply]) -> list[dict[str, Any]]:
    """The dearest violations, at most one of each statement and kind."""
    found = [
        violation | {"query": row.query, "reply": row.reply}
        for row in replies
        for violation in row.violations
    ]
    times: dict[tuple[str, str], int] = {}
    for violation in found:
        key = (violation["statement"], violation["kind"])
        times[key] = times.get(key, 0) + 1
    kept: dict[tuple[str, str], dict[str, Any]] = {}
    for violation in sorted(found, key=lambda v: -v["cost"]):
        key = (violation["statement"], violation["kind"])
        kept.setdefault(key, violation | {"replies": times[key]})
    return list(kept.values())[:_WORST]


def _mean(values: Any) -> float:
    found = [float(value) for value in values]
    return round(sum(found) / len(found), 4)
