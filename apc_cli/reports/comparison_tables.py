"""A comparison's figures as rows of text, for the terminal, Markdown and HTML alike."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from apc_cli.reports.style import FLAWS


@dataclass(frozen=True)
class TextTable:
    """A table whose first column is text and whose others are figures."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def tables(report: Mapping[str, Any]) -> list[TextTable]:
    """All tables of a comparison, the main one first; empty ones are left out."""
    found = [faithfulness(report), style(report), flawed(report), *_tests(report)]
    return [table for table in found if table.rows]


def faithfulness(report: Mapping[str, Any]) -> TextTable:
    """ΔAPC = active reward − passive penalty, and the violations of each kind a reply."""
    rows = [
        [
            name,
            _with_interval(s, "delta", "+.3f"),
            f"{s['active_reward']:.3f}",
            f"{s['passive_penalty']:.3f}",
            f"{s['active_violations']:.2f}",
            f"{s['passive_violations']:.2f}",
            f"{s['words']:.1f}",
        ]
        for name, s in report["systems"].items()
    ]
    columns = ["", "ΔAPC (95%)", "reward", "penalty", "missed", "contradicted", "words"]
    title = (
        f"{report['character']}: {len(report['queries'])} queries × {report['samples']} replies, "
        f"{report['statements']} statements, judged by {report['evaluator_title']}"
    )
    return TextTable(title, columns, rows)


def style(report: Mapping[str, Any]) -> TextTable:
    """How the replies read: a score that rises while this falls is not worth having."""
    rows = [
        [name, f"{s['apc']:.2f}", _or_dash(s["nll_per_token"]), f"{s['distinct_2']:.2f}",
         *(f"{s['delta_by_source'].get(source, 0):+.3f}" for source in report["sources"])]
        for name, s in report["systems"].items()
    ]  # fmt: skip
    sources = (f"ΔAPC, {source}" for source in report["sources"])
    return TextTable("How they read", ["", "APC", "NLL", "distinct-2", *sources], rows)


def flawed(report: Mapping[str, Any]) -> TextTable:
    """The share of replies with each flaw."""
    rows = [
        [name, *(f"{s['share'][kind]:.0%}" for kind in FLAWS)]
        for name, s in report["systems"].items()
    ]
    return TextTable("Replies that read badly", ["", *FLAWS], rows)


def _or_dash(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _tests(report: Mapping[str, Any]) -> Iterator[TextTable]:
    columns = ["", "ΔAPC gained (95%)", "p", "p (Holm)"]
    against = [[row["after"], *_gain(row)] for row in report["against_baseline"]]
    yield TextTable(f"Against {report['baseline']}, paired by query", columns, against)
    steps = [[f"{row['before']} → {row['after']}", *_gain(row)] for row in report["training"]]
    yield TextTable("What each step of training gained", columns, steps)


def _gain(row: Mapping[str, Any]) -> list[str]:
    low, high = row["ci95"]
    gain = f"{row['delta']:+.3f} ({low:+.3f} … {high:+.3f})"
    return [gain, f"{row['p']:.4f}", f"{row['p_holm']:.4f}"]


def _with_interval(figures: Mapping[str, Any], key: str, style: str) -> str:
    low, high = figures[f"{key}_ci95"]
    return f"{figures[key]:{style}} ({low:{style}} … {high:{style}})"
