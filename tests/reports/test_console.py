"""Tables and progress, rendered as text."""

import io
import re

from rich.console import Console

from apc_cli.reports.console import (
    ConsoleProgress,
    confusion_table,
    discriminator_tables,
    evaluation_table,
    gain_line,
    lint_table,
    reliability_table,
    sure_line,
    table,
)
from apc_cli.reports.terminal import safe

SYSTEM = {
    "delta": 1.25,
    "ci95": [1.0, 1.5],
    "active_reward": 2.0,
    "passive_penalty": 0.75,
    "words": 12.34,
    "nll_per_token": 1.5,
    "distinct_2": 0.9,
    "share": {"empty": 0.25},
}


def rendered(thing):
    console = Console(file=io.StringIO(), width=100)
    console.print(thing)
    return console.file.getvalue()


def test_unsafe_text_is_neutralised_and_markup_is_text():
    unsafe = "\x1b[2J \x9b31m \x07 \r \u202e \ud800 \x00"
    assert safe(unsafe) == "\ufffd[2J \ufffd31m \ufffd \ufffd \ufffd \ufffd \ufffd"
    assert safe("a\r\nb\tc\n") == "a\nb\tc\n"
    text = rendered(table("T", ["a", "b"], [["[red]x[/x]", unsafe]]))
    assert "[red]x[/x]" in text and not set(text) & set("\x1b\x9b\x07\r\u202e\ud800\x00")


def test_evaluation_table_shows_each_system_that_there_is():
    report = {"queries": 12, "before": SYSTEM, "after": SYSTEM | {"delta": -2.5}}
    report["evaluator"] = {"relevance": "judge:a", "nli": "judge:b"}
    text = rendered(evaluation_table(report))
    assert "base model" not in text and "before DPO" in text and "after DPO" in text
    assert "+1.250" in text and "-2.500" in text and "+1.000 … +1.500" in text
    assert "25%" in text and "12 queries, judged by the evaluator pair" in text
    assert "base model" in rendered(evaluation_table(report | {"base": SYSTEM}))


def test_evaluation_table_names_an_llm_that_judged():
    named = {"relevance": "LLM big-model", "nli": "LLM big-model"}
    text = rendered(evaluation_table({"queries": 3, "after": SYSTEM, "evaluator": named}))
    assert "3 queries, judged by the LLM big-model" in text


def test_gain_line_says_when_the_judge_is_not_independent():
    report = {"gain": {"delta": 0.5, "ci95": [0.1, 0.9], "p": 0.0312}, "evaluator": {}}
    assert gain_line(report) == "ΔAPC gain by DPO: +0.500 (95% +0.100 … +0.900, p = 0.031)"
    report["evaluator"] = {"warning": "same pair"}
    assert gain_line(report).endswith("\nwarning: same pair")


def test_discriminator_table_has_a_row_for_each_measurement():
    figures = {"accuracy": 0.5, "majority": 0.4, "macro_f1": 0.3, "calibration_error": 0.2}
    figures |= {"rows": 7, "auc": None, "brier": 0.9}
    found = {"before": figures, "held out": figures | {"accuracy": 0.75}}
    found |= {"baselines": {"word overlap": figures}}
    strangers = {"before on others": None, "held out on others": None, "baselines on others": {}}
    [own] = discriminator_tables({"nli": found | strangers})
    text = rendered(own)
    for name in ("nli, before training", "nli, trained", "nli, word overlap"):
        assert name in text
    assert "0.500" in text and "0.750" in text and "–" in text
    strangers["held out on others"] = figures | {"accuracy": 0.25}
    _, others = discriminator_tables({"nli": found | strangers})
    assert "0.250" in rendered(others) and "other characters" in rendered(others)


def test_sure_line_names_both_shares():
    line = sure_line("nli", {"sure_share": 0.7, "sure_accuracy": 0.95})
    assert "nli" in line and "70%" in line and "95%" in line
    assert "no row" in sure_line("nli", {"sure_share": 0.0, "sure_accuracy": None})


def test_confusion_table_has_the_labels_on_both_sides():
    text = rendered(confusion_table("relevance", {"confusion": [[5, 1], [2, 7]]}, ("no", "yes")))
    lines = [" ".join(re.findall(r"\w+", line)) for line in text.splitlines()]
    assert "no yes" in lines and "no 5 1" in lines and "yes 2 7" in lines


def test_progress_without_a_terminal_is_one_plain_line():
    console = Console(file=io.StringIO(), width=40)
    progress = ConsoleProgress(console)
    with progress.task("Work [1]", 3) as task:
        for _ in range(3):
            task.advance(note="x")
    progress.say("[red]long " + "word " * 20)
    first, second = console.file.getvalue().splitlines()
    assert first == "Work [1] (3) …" and second.startswith("[red]long word")


def test_reliability_shows_stated_and_found_side_by_side():
    console = Console(file=io.StringIO(), width=80)
    console.print(reliability_table("nli", {"reliability": [(0.5, 1.0, 7)]}))
    text = console.file.getvalue()
    assert "0.50" in text and "1.00" in text and "7" in text
    bars = [line.count("▇") for line in text.splitlines() if "▇" in line]
    assert bars == [10, 20]


def test_lint_names_each_statement_and_its_fix():
    console = Console(file=io.StringIO(), width=100)
    finding = {
        "problem": "duplicate",
        "statements": (2, 5),
        "texts": ("Mara bakes.", "Mara is a baker.\x1b[2J"),
        "probability": 0.815,
        "fix": "drop 2: 5 says it",
    }
    console.print(lint_table([finding, finding | {"probability": None}]))
    text = console.file.getvalue()
    assert "2. Mara bakes." in text and "5. Mara is a baker.�[2J" in text
    assert text.count("drop 2: 5 says it") == 2 and text.count("0.81") == 1


def test_without_a_terminal_long_work_says_how_far_it_is(monkeypatch):
    from apc_cli.reports import console

    monkeypatch.setattr(console, "_SILENCE", 0.0)
    out = io.StringIO()
    with ConsoleProgress(Console(file=out)).task("Scoring", 8) as task:
        task.advance(2, "9.0 rows/s")
        task.advance(2, "9.5 rows/s")
    first, second, third = out.getvalue().splitlines()
    assert first.startswith("Scoring (8)") and second.startswith("Scoring: 2 of 8, 9.0 rows/s")
    assert third == "Scoring: 4 of 8, 9.5 rows/s, 0 min left"
