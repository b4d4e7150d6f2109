"""A comparison as Markdown and as one HTML file that loads nothing; all text in it is escaped."""

import re
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from apc_cli.reports.comparison_tables import TextTable, tables
from apc_cli.reports.plots import Interval, curve_plot, interval_plot
from apc_cli.reports.terminal import safe

_MARKDOWN_SIGNS = re.compile(r"([\\`*_\[\]<>|#~&])")


def html_page(report: Mapping[str, Any]) -> str:
    """The page; it opens from disk, and its policy forbids scripts and any loading."""
    environment = Environment(
        loader=PackageLoader("apc_cli.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_safe_text,
    )
    template = environment.get_template("comparison.html.j2")
    return template.render(
        report=report,
        tables=tables(report),
        intervals=interval_plot(_intervals(report), "ΔAPC by system, 95% intervals"),
        curve=_curve(report),
    )


def markdown_page(report: Mapping[str, Any]) -> str:
    """Tables, worst violations and sample replies as Markdown."""
    parts = [f"# {plain(report['character'])}: faithfulness compared"]
    if warning := report["evaluator"].get("warning"):
        parts.append(f"**Warning: {plain(warning)}.**")
    parts += [plain(note) for note in report["notes"]]
    parts += [markdown_table(table) for table in tables(report)]
    if report["top_k"]:
        parts.append(markdown_table(_curve_table(report)))
    for name, found in report["worst_violations"].items():
        rows = [
            [
                f"{v['cost']:.2f}",
                v["kind"],
                str(v["replies"]),
                v["statement"],
                v["query"],
                v["reply"],
            ]
            for v in found
        ]
        columns = ["cost", "kind", "replies", "statement", "query", "reply"]
        if rows:
            parts.append(markdown_table(TextTable(f"Worst violations: {name}", columns, rows)))
    for sample in report["samples_shown"]:
        lines = [f"- {plain(name)}: {plain(shown['reply'])} ({shown['delta']:+.2f})"
                 for name, shown in sample["replies"].items()]  # fmt: skip
        parts.append("\n".join([f"**{plain(sample['query'])}**", "", *lines]))
    rows = [[key, str(value)] for key, value in report["made"].items()]
    parts.append(markdown_table(TextTable("How it was made", ["", ""], rows)))
    return "\n\n".join(parts) + "\n"


def _intervals(report: Mapping[str, Any]) -> dict[str, Interval]:
    return {name: (s["delta"], *s["delta_ci95"]) for name, s in report["systems"].items()}


def _curve(report: Mapping[str, Any]) -> Markup | None:
    if not report["top_k"]:
        return None
    curves = {
        stage: {int(k): (s["delta"], *s["delta_ci95"]) for k, s in points.items()}
        for stage, points in report["top_k"].items()
    }
    return curve_plot(curves, "ΔAPC by retrieved statements", "retrieved statements (k)")


def _curve_table(report: Mapping[str, Any]) -> TextTable:
    ks = sorted({int(k) for points in report["top_k"].values() for k in points})
    rows = [
        [stage, *(f"{points[str(k)]['delta']:+.3f}" if str(k) in points else "" for k in ks)]
        for stage, points in report["top_k"].items()
    ]
    return TextTable("ΔAPC by retrieved statements", ["k", *map(str, ks)], rows)


def markdown_table(table: TextTable, *, heading: bool = True) -> str:
    """The table as Markdown, under its title."""
    lines = [f"## {plain(table.title)}", ""] if heading else []
    lines.append(_row(table.columns))
    lines.append("|" + "|".join(["---", *["---:"] * (len(table.columns) - 1)]) + "|")
    return "\n".join(lines + [_row(row) for row in table.rows])


def _row(cells: Any) -> str:
    return "| " + " | ".join(plain(cell) for cell in cells) + " |"


def plain(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return _MARKDOWN_SIGNS.sub(r"\\\1", " ".join(safe(text).split()))


def _safe_text(value: Any) -> Any:
    return safe(value) if isinstance(value, str) and not isinstance(value, Markup) else value
