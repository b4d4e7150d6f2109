"""Progress and tables on stderr, by rich; bars only on a terminal."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
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

from apc_cli.reports.judges import judged_by
from apc_cli.reports.terminal import safe

_SILENCE = 30.0
"""Seconds without a word where there is no terminal."""


class ConsoleProgress:
    """The Progress of apc_cli.progress on a terminal, or a line per task elsewhere."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def say(self, text: str) -> None:
        """A line of plain text; nothing in it is read as markup."""
        self.console.print(Text(safe(text)), soft_wrap=True)

    @contextmanager
    def task(self, title: str, total: int) -> Iterator["ConsoleTask"]:
        """A bar with the time left; without a terminal, the title, and a line now and then."""
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
            task = bar.add_task(title, total=total, note="")
            yield ConsoleTask(bar, task, None if self.console.is_terminal else self.say)


class ConsoleTask:
    """One bar; or, with `say`, a line every half minute."""

    def __init__(
        self, bar: Progress, task: TaskID, say: Callable[[str], None] | None = None
    ) -> None:
        self._bar, self._task, self._say = bar, task, say
        self._said = time.monotonic()

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Moves the bar on."""
        self._bar.update(self._task, advance=steps, note=note)
        if self._say and time.monotonic() - self._said >= _SILENCE:
            self._said = time.monotonic()
            self._say(self._line(note))

    def _line(self, note: str) -> str:
        task = next(task for task in self._bar.tasks if task.id == self._task)
        done, left = int(task.completed), task.time_remaining
        parts = [f"{task.description}: {done} of {int(task.total or 0)}", note]
        if left is not None:
            parts.append(f"{left / 60:.0f} min left")
        return ", ".join(part for part in parts if part)


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
        f"{report['queries']} queries, judged by {judged_by(report['evaluator'])}",
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


def cost_line(cost: Mapping[str, Any]) -> str:
    """What a stage asked of an LLM, in a sentence."""
    return (
        f"{cost['requests']} requests, {cost['stored']} replies from the journal, "
        f"{cost['input_tokens']:,} tokens in, {cost['output_tokens']:,} out, {dollars(cost)}"
    )


def dollars(cost: Mapping[str, Any]) -> str:
    """The price, or that there is none to tell."""
    return "price unknown" if cost["dollars"] is None else f"${cost['dollars']:.4f}"


_FIGURES = ("rows", "accuracy", "macro-F1", "AUC", "ECE", "Brier")


def discriminator_tables(figures: Mapping[str, Mapping[str, Any]]) -> Iterator[Table]:
    """Figures of both discriminators on what was held out, beside what can be had without them.

    One table for statements of the character, one for other characters where there are any.
    """
    for on, where in (("", "held-out statements"), (" on others", "other characters")):
        rows = []
        for kind, found in figures.items():
            named = {"before training": found[f"before{on}"], "trained": found[f"held out{on}"]}
            for name, report in (named | found[f"baselines{on}"]).items():
                if report:
                    rows.append([f"{kind}, {name}", *_figures(report)])
        if rows:
            yield table("Discriminators: agreement with the teacher", [where, *_FIGURES], rows)


def sure_line(kind: str, report: Mapping[str, Any]) -> str:
    """How much a judge is sure of, and how often it is right then."""
    if report["sure_accuracy"] is None:
        return f"{kind}: sure of no row"
    share, right = report["sure_share"], report["sure_accuracy"]
    return f"{kind}: sure of {share:.0%} of the rows, and right in {right:.0%} of these"


def label_table(report: Mapping[str, Mapping[str, Any]]) -> Table:
    """What the discriminators were trained on: class balance, agreement, sources."""
    rows = []
    for kind, found in report.items():
        agreed = found["as_written"]
        rows += [
            [f"{kind}: rows", str(found["rows"])],
            *([f"  {label}", f"{share:.1%}"] for label, share in found["labels"].items()),
            [
                f"  judged as written, of {found['written']}",
                "–" if agreed is None else f"{agreed:.1%}",
            ],
            *([f"  labels from {source}", str(n)] for source, n in found["sources"].items()),
        ]
    return table("Labelled data", ["", ""], rows)


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
        rows.append([*row, *[""] * (len(_FIGURES) - 2)])
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
