"""Labelled data becomes the character's own two discriminators (paper section 4.1)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from apc_cli.config import Discriminators
from apc_cli.models.baselines import Pair, guesses, installed_embedder
from apc_cli.models.discriminator import Discriminator
from apc_cli.models.discriminator_training import (
    FitSettings,
    LabelledPrompt,
    best_temperature,
    fit,
    predict,
)
from apc_cli.prompts import nli_prompt, relevance_prompt
from apc_cli.records import (
    NLI_LABELS,
    RELEVANCE_LABELS,
    NliExample,
    RelevanceExample,
    Summary,
)
from apc_cli.reports.agreement import agreement
from apc_cli.reports.labels import label_report
from apc_cli.splits import hold_out_statements

if TYPE_CHECKING:
    from apc_cli.models.embedder import Embedder
    from apc_cli.progress import Progress
    from apc_cli.prompts import InputStyle
    from apc_cli.workspace import Workspace

Example = RelevanceExample | NliExample


def run(
    character: str,
    relevance: Sequence[RelevanceExample],
    nli: Sequence[NliExample],
    settings: Discriminators,
    seed: int,
    device: str,
    workspace: "Workspace",
    progress: "Progress",
) -> Summary:
    """Writes discriminators/{relevance,nli}; returns held-out figures before and after training."""
    plan = (
        (
            "relevance",
            settings.base_relevance,
            RELEVANCE_LABELS,
            relevance,
            settings.relevance_epochs,
        ),
        ("nli", settings.base_nli, NLI_LABELS, nli, settings.nli_epochs),
    )
    figures = {}
    embedder = installed_embedder(progress, device)
    with workspace.new_directory("discriminators") as directory:
        for kind, base, labels, rows, epochs in plan:
            judge = _start(base, labels, device, seed)
            parts = _split(rows, settings.test_share, seed)
            prompts = [_prompts(character, judge.style, part) for part in parts]
            fitting = FitSettings(epochs, settings.learning_rate, settings.batch_size, seed=seed)
            known = _baselines(character, parts[-1], labels, embedder)
            judge, figures[kind] = _fit_and_measure(judge, prompts, fitting, kind, known, progress)
            judge.save(directory / kind)
    figures["labels"] = label_report(relevance, nli)
    return Summary(len(relevance) + len(nli), figures=figures)


def _start(base: str, labels: tuple[str, ...], device: str, seed: int) -> Discriminator:
    """A shipped judge goes on learning; any other base starts as a fresh classifier."""
    if base.startswith("judge:"):
        return Discriminator.load(base, labels=labels, device=device, trainable=True)
    return Discriminator.create(
        base,
        labels=labels,
        architecture="classifier",
        style="released",
        device=device,
        seed=seed,
    )


def _split(
    rows: Sequence[Example], share: float, seed: int
) -> tuple[list[Example], list[Example], list[Example]]:
    """(training, calibration, test) rows that share no statement."""
    statements = [row.statement for row in rows]
    rest, test = hold_out_statements(statements, share, seed)
    train, calibration = hold_out_statements(sorted(rest), share / 2, seed)
    parts = (train, calibration, test)
    return tuple([row for row in rows if row.statement in part] for part in parts)


def _prompts(character: str, style: "InputStyle", rows: Sequence[Example]) -> list[LabelledPrompt]:
    """One prompt for all statements that were judged for the same query and reply."""
    groups: dict[tuple[str, str | None], list[Example]] = {}
    for row in rows:
        response = row.response if isinstance(row, NliExample) else None
        groups.setdefault((row.query, response), []).append(row)
    prompts = []
    for (query, response), members in groups.items():
        statements = [member.statement for member in members]
        if response is None:
            prompt = relevance_prompt(style, character, statements, query)
        else:
            prompt = nli_prompt(style, character, statements, query, response)
        targets = np.array([member.probabilities for member in members], np.float32)
        prompts.append(LabelledPrompt(prompt, targets))
    return prompts


def _baselines(
    character: str, rows: Sequence[Example], labels: Sequence[str], embedder: "Embedder | None"
) -> dict[str, dict[str, Any]]:
    """What can be had without a judge on the test rows; a row's guess is from other statements.

    Nothing where there is only one statement.
    """
    if len({row.statement for row in rows}) < 2:
        return {}
    texts = [row.response if isinstance(row, NliExample) else row.query for row in rows]
    pairs = [Pair(character, row.statement, t) for row, t in zip(rows, texts, strict=True)]
    targets = np.array([row.probabilities for row in rows])
    statements = [row.statement for row in rows]
    guessed = guesses(pairs, targets.argmax(1), statements, len(labels), embedder)
    return {name: agreement(targets, values).row() for name, values in guessed.items()}


def _fit_and_measure(
    judge: Discriminator,
    parts: Sequence[Sequence[LabelledPrompt]],
    settings: FitSettings,
    kind: str,
    baselines: dict[str, dict[str, Any]],
    progress: "Progress",
) -> tuple[Discriminator, dict[str, Any]]:
    train, calibration, test = parts
    figures: dict[str, Any] = {"training prompts": len(train), "baselines": baselines}
    if test:
        figures["before"] = agreement(*predict(judge, test)).row()
    judge = judge.calibrated(1.0)
    steps = -(-round(settings.epochs * len(train)) // settings.batch_size)
    with progress.task(f"Training the {kind} discriminator", steps) as task:
        fit(judge, train, settings, lambda *at: task.advance(1, f"loss {at[2]:.3f}"))
    if calibration:
        judge = judge.calibrated(best_temperature(*predict(judge, calibration)))
    figures["temperature"] = judge.description.temperature
    if test:
        figures["held out"] = agreement(*predict(judge, test)).row()
        _warn(kind, figures, progress)
    return judge, figures


def _warn(kind: str, figures: dict[str, Any], progress: "Progress") -> None:
    trained = figures["held out"]
    if trained["macro_f1"] <= figures["before"]["macro_f1"]:
        progress.say(
            f"warning: on held-out statements the {kind} discriminator is no better than it "
            "was before training: use discriminators.source: pretrained, or more data"
        )
    for name, found in figures["baselines"].items():
        if trained["accuracy"] <= found["accuracy"]:
            progress.say(
                f"warning: on held-out statements the {kind} discriminator is no better than "
                f"{name}: do not trust it, give it more data"
            )
