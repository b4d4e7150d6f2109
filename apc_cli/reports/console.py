"""Progress and tables on stderr, by rich; bars only on a terminal."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from apc_cli.reports.terminal import safe


class ConsoleProgress:
    """The Progress of apc_cli.progress on a terminal, or a line per task elsewhere."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def say(self, text: str) -> None:
        """A line of plain text; nothing in it is read as markup."""
        self.console.print(Text(safe(text)), soft_wrap=True)

    @contextmanager
    def task(self, title: str, total: int) -> Iterator["ConsoleTask"]:
        """A bar with the time left; without a terminal, the title alone."""
        if not self.console.is_terminal:
            self.say(f"{title} ({total}) …")
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        bar = Progress(*columns, console=self.console, disable=not self.console.is_terminal)
        with bar:
            yield ConsoleTask(bar, bar.add_task(title, total=total, note=""))


class ConsoleTask:
    """One bar."""

    def __init__(self, bar: Progress, task: TaskID) -> None:
        self._bar, self._task = bar, task

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Moves the bar on."""
        self._bar.update(self._task, advance=steps, note=note)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table whose first column is text and whose others are figures."""
    made = Table(title=title, title_justify="left", title_style="bold")
    for index, column in enumerate(columns):
        made.add_column(column, justify="left" if index == 0 else "right", overflow="fold")
    for row in rows:
        made.add_row(*(Text(safe(cell)) for cell in row))
    return made


def evaluation_table(report: Mapping[str, Any]) -> Table:
    """evaluation.json as a table: one column a system."""
    systems = [name for name in ("base", "before", "after") if name in report]
    rows = [
        ["ΔAPC", *(f"{report[s]['delta']:+.3f}" for s in systems)],
        ["  95% interval", *("{:+.3f} … {:+.3f}".format(*report[s]["ci95"]) for s in systems)],
        ["active reward", *(f"{report[s]['active_reward']:.3f}" for s in systems)],
        ["passive penalty", *(f"{report[s]['passive_penalty']:.3f}" for s in systems)],
        ["words", *(f"{report[s]['words']:.1f}" for s in systems)],
        ["NLL per token (base)", *(f"{report[s]['nll_per_token']:.2f}" for s in systems)],
        ["distinct-2", *(f"{report[s]['distinct_2']:.2f}" for s in systems)],
    ]
    for kind in report["after"]["share"]:
        rows.append([kind, *(f"{report[s]['share'][kind]:.0%}" for s in systems)])
    trained = report.get("algorithm", "dpo").upper()
    titles = {"base": "base model", "before": f"before {trained}", "after": f"after {trained}"}
    return table(
        f"{report['queries']} queries, judged by the evaluator pair",
        ["", *(titles[s] for s in systems)],
        rows,
    )


def gain_line(report: Mapping[str, Any]) -> str:
    """The gain in one sentence."""
    gain = report["gain"]
    low, high = gain["ci95"]
    interval = f"95% {low:+.3f} … {high:+.3f}, p = {gain['p']:.3f}"
    line = (
        f"ΔAPC gain by {report.get('algorithm', 'dpo').upper()}: {gain['delta']:+.3f} ({interval})"
    )
    warning = report["evaluator"].get("warning")
    return f"{line}\nwarning: {warning}" if warning else line


_FIGURES = ("rows", "accuracy", "macro-F1", "AUC", "ECE", "Brier")


def discriminator_table(figures: Mapping[str, Mapping[str, Any]]) -> Table:
    """Held-out figures of both discriminators, beside what can be had without them."""
    rows = []
    for kind, found in figures.items():
        named = {"before training": found.get("before"), "trained": found.get("held out")}
        for name, report in (named | found.get("baselines", {})).items():
            if report:
                rows.append([f"{kind}, {name}", *_figures(report)])
    return table("Discriminators", ["held-out statements", *_FIGURES], rows)


def confusion_table(kind: str, report: Mapping[str, Any], labels: Sequence[str]) -> Table:
    """How many held-out rows of each label were given which label."""
    counts = [[str(n) for n in row] for row in report["confusion"]]
    rows = [[label, *row] for label, row in zip(labels, counts, strict=True)]
    return table(f"{kind}: labelled (down) and found (across)", ["", *labels], rows)


def agreement_table(report: Mapping[str, Any]) -> Table:
    """What `apc check-judge` found: the judge beside the baselines, then the ranking."""
    rows = []
    for kind in ("relevance", "nli"):
        for name, found in report.get(kind, {}).items():
            if name != "beats_baselines":
                rows.append([f"{kind}, {name}", *_figures(found)])
    if (ranking := report.get("ranking")) and ranking["pairs"]:
        row = [
            "replies in the order of their ranks",
            str(ranking["pairs"]),
            f"{ranking['in_order']:.3f}",
        ]
        rows.append([*row, "", "", "", ""])
    return table("Agreement with the labels", ["", *_FIGURES], rows)


def reliability_table(kind: str, report: Mapping[str, Any]) -> Table:
    """How often a judge is right, by how sure it says it is: equal bars are a calibrated judge."""
    rows = [
        [f"{sure:.2f}", f"{right:.2f}", str(n), f"{_bar(sure)}\n{_bar(right)}"]
        for sure, right, n in report["reliability"]
    ]
    return table(f"{kind}: is it as right as it is sure?", ["sure", "right", "rows", ""], rows)


def _bar(share: float, width: int = 20) -> str:
    return ("▇" * round(share * width)).ljust(width)


def lint_table(findings: Sequence[Mapping[str, Any]]) -> Table:
    """What `apc lint` found in a persona."""
    made = Table("problem", "statements", "sure", "fix", title="Persona", title_justify="left")
    for finding in findings:
        pairs = zip(finding["statements"], finding["texts"], strict=True)
        texts = "\n".join(f"{number}. {text}" for number, text in pairs)
        sure = "" if finding["probability"] is None else f"{finding['probability']:.2f}"
        made.add_row(*(Text(safe(c)) for c in (finding["problem"], texts, sure, finding["fix"])))
    return made


def _figures(report: Mapping[str, Any]) -> list[str]:
    """The rows and the figures of one agreement as table cells, in the order of _FIGURES."""
    keys = ("accuracy", "macro_f1", "auc", "calibration_error", "brier")
    values = [report[key] for key in keys]
    return [str(report["rows"]), *("–" if v is None else f"{v:.3f}" for v in values)]
