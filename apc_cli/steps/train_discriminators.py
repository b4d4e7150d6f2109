"""Labelled data becomes the character's own two discriminators (paper section 4.1)."""

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from apc_cli.config import Discriminators
from apc_cli.models.judging.baselines import Pair, guesses, installed_embedder
from apc_cli.models.judging.discriminator import METADATA, Discriminator
from apc_cli.models.judging.discriminator_training import (
    FitSettings,
    LabelledPrompt,
    best_temperature,
    confidence_for,
    fit,
    predict,
    rescaled,
)
from apc_cli.models.references import expanded
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
    from apc_cli.models.judging.embedder import Embedder
    from apc_cli.progress import Progress
    from apc_cli.prompts import InputStyle
    from apc_cli.workspace import Workspace

Example = RelevanceExample | NliExample
_OTHER_ROWS = 200
"""Rows of other characters that a discriminator is measured on, at most."""


class Labelled(NamedTuple):
    """A character's rows, as the teacher judged them."""

    character: str
    relevance: Sequence[RelevanceExample]
    nli: Sequence[NliExample]


def run(
    own: Labelled,
    others: Sequence[Labelled],
    settings: Discriminators,
    seed: int,
    device: str,
    workspace: "Workspace",
    progress: "Progress",
) -> Summary:
    """Writes discriminators/{relevance,nli}; returns held-out figures before and after training.

    Held out are statements of the character itself, and all rows of `others`, who play no part in
    the training.
    """
    plan = (
        (
            "relevance",
            settings.base_relevance,
            RELEVANCE_LABELS,
            settings.relevance_epochs,
        ),
        ("nli", settings.base_nli, NLI_LABELS, settings.nli_epochs),
    )
    figures = {}
    embedder = installed_embedder(progress, device)
    with workspace.new_directory("discriminators") as directory:
        for kind, base, labels, epochs in plan:
            judge = _start(base, labels, device, seed)
            parts = _split(getattr(own, kind), settings.test_share, seed)
            prompts = [_prompts(own.character, judge.style, part) for part in parts]
            strangers = _of_others(kind, others, seed)
            unseen = [_prompts(who, judge.style, rows) for who, rows in strangers]
            prompts.append([prompt for made in unseen for prompt in made])
            fitting = FitSettings(epochs, settings.learning_rate, settings.batch_size, seed=seed)
            judge, found = _fit_and_measure(judge, prompts, fitting, kind, progress)
            found["baselines"] = _baselines([(own.character, parts[-1])], labels, embedder)
            found["baselines on others"] = _baselines(strangers, labels, embedder)
            _warn(kind, found, progress)
            judge.save(directory / kind)
            figures[kind] = found
    figures["labels"] = label_report(own.relevance, own.nli)
    return Summary(len(own.relevance) + len(own.nli), figures=figures)


def _start(base: str, labels: tuple[str, ...], device: str, seed: int) -> Discriminator:
    """A judge, shipped or in a directory, goes on learning; any other base starts afresh."""
    if base.startswith("judge:") or (expanded(base) / METADATA).is_file():
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


def _of_others(kind: str, others: Sequence[Labelled], seed: int) -> list[tuple[str, list[Example]]]:
    """(character, rows) of each other character, at most _OTHER_ROWS rows in all."""
    share = _OTHER_ROWS // max(1, len(others))
    draw = random.Random(f"others {seed}")
    found = []
    for other in others:
        rows = list(getattr(other, kind))
        found.append((other.character, draw.sample(rows, min(share, len(rows)))))
    return found


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
    tests: Sequence[tuple[str, Sequence[Example]]],
    labels: Sequence[str],
    embedder: "Embedder | None",
) -> dict[str, dict[str, Any]]:
    """What can be had without a judge on (character, rows); a guess is from other statements.

    Nothing where there is only one statement.
    """
    rows = [(character, row) for character, rows in tests for row in rows]
    statements = [row.statement for _, row in rows]
    if len(set(statements)) < 2:
        return {}
    texts = [row.response if isinstance(row, NliExample) else row.query for _, row in rows]
    pairs = [Pair(who, row.statement, t) for (who, row), t in zip(rows, texts, strict=True)]
    targets = np.array([row.probabilities for _, row in rows])
    guessed = guesses(pairs, targets.argmax(1), statements, len(labels), embedder)
    return {name: agreement(targets, values).row() for name, values in guessed.items()}


def _fit_and_measure(
    judge: Discriminator,
    parts: Sequence[Sequence[LabelledPrompt]],
    settings: FitSettings,
    kind: str,
    progress: "Progress",
) -> tuple[Discriminator, dict[str, Any]]:
    """Fits to the first of four parts, calibrates on the second, measures on the others."""
    train, calibration, *tests = parts
    figures: dict[str, Any] = {"training prompts": len(train)}
    figures |= {f"before{on}": _measured(judge, test) for on, test in zip(_ON, tests, strict=True)}
    judge = judge.calibrated(1.0)
    steps = -(-round(settings.epochs * len(train)) // settings.batch_size)
    with progress.task(f"Training the {kind} discriminator", steps) as task:
        fit(judge, train, settings, lambda *at: task.advance(1, f"loss {at[2]:.3f}"))
    if calibration:
        targets, found = predict(judge, calibration)
        temperature = best_temperature(targets, found)
        sure_from = confidence_for(targets, rescaled(found, temperature))
        judge = judge.calibrated(temperature, sure_from)
    figures["temperature"] = judge.description.temperature
    figures |= {f"held out{on}": _measured(judge, t) for on, t in zip(_ON, tests, strict=True)}
    return judge, figures


_ON = ("", " on others")
"""How the figures of held-out statements and of other characters are named."""


def _measured(judge: Discriminator, test: Sequence[LabelledPrompt]) -> dict[str, Any] | None:
    """The figures of agreement; None without any rows."""
    if not test:
        return None
    return agreement(*predict(judge, test), judge.description.sure_from).row()


def _warn(kind: str, figures: dict[str, Any], progress: "Progress") -> None:
    trained, unseen = figures["held out"], figures["held out on others"]
    if unseen is None:
        progress.say(f"{kind}: no other character here has labelled data to be measured on")
    elif unseen["accuracy"] < figures["before on others"]["accuracy"]:
        progress.say(
            f"warning: on other characters the {kind} discriminator is worse than before training: "
            "use it for this character alone"
        )
    if trained is None:
        return
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
