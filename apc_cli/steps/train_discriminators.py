"""Labelled data becomes the character's own two discriminators (paper section 4.1)."""

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from apc_cli.config import Discriminators
from apc_cli.models.judging.baselines import Known, Pair, guesses, installed_embedder
from apc_cli.models.judging.discriminator import METADATA, Discriminator
from apc_cli.models.judging.discriminator_training import (
    FitSettings,
    LabelledPrompt,
    calibration,
    fit,
    predict,
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
from apc_cli.reports.agreement import agreement, is_better
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
    """Writes discriminators/{relevance,nli}, and discriminators.json: figures before and after.

    Measured on statements of the character that were held out, and on rows of `others`, who play no
    part in the training.
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
            known, *tests = [(own.character, parts[0])], [(own.character, parts[-1])], strangers
            for on, made in zip(_ON, _baselines(known, tests, labels, embedder), strict=True):
                found[f"baselines{on}"] = made
                _warn(kind, on, found, progress)
            judge.save(directory / kind)
            figures[kind] = found
    figures["labels"] = label_report(own.relevance, own.nli)
    workspace.write_json("discriminators.json", figures)
    return Summary(len(own.relevance) + len(own.nli))


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
    known: Sequence[tuple[str, Sequence[Example]]],
    tests: Sequence[Sequence[tuple[str, Sequence[Example]]]],
    labels: Sequence[str],
    embedder: "Embedder | None",
) -> list[dict[str, dict[str, Any]]]:
    """On each of `tests`, what can be had without a judge from the same (character, rows).

    Nothing where there are no rows.
    """
    (learnt, targets), asked = _pairs(known), [_pairs(test) for test in tests]
    pairs = [pair for part, _ in asked for pair in part]
    if not (learnt and pairs):
        return [{} for _ in tests]
    guessed = guesses(Known(learnt, targets.argmax(1)), pairs, len(labels), embedder)
    ends = np.cumsum([len(part) for part, _ in asked])[:-1]
    apart = {name: np.split(values, ends) for name, values in guessed.items()}
    return [
        {name: agreement(truth, parts[i]).row() for name, parts in apart.items() if len(truth)}
        for i, (_, truth) in enumerate(asked)
    ]


def _pairs(rows: Sequence[tuple[str, Sequence[Example]]]) -> tuple[list[Pair], np.ndarray]:
    """What a baseline compares, and the target probabilities: (rows, labels)."""
    found = [(character, row) for character, examples in rows for row in examples]
    texts = [row.response if isinstance(row, NliExample) else row.query for _, row in found]
    pairs = [Pair(who, row.statement, t) for (who, row), t in zip(found, texts, strict=True)]
    return pairs, np.array([row.probabilities for _, row in found])


def _fit_and_measure(
    judge: Discriminator,
    parts: Sequence[Sequence[LabelledPrompt]],
    settings: FitSettings,
    kind: str,
    progress: "Progress",
) -> tuple[Discriminator, dict[str, Any]]:
    """Fits to the first of four parts, calibrates on the second, measures on the others."""
    train, kept, *tests = parts
    figures: dict[str, Any] = {"training prompts": len(train)}
    figures |= {f"before{on}": _measured(judge, test) for on, test in zip(_ON, tests, strict=True)}
    before, judge = judge.description, judge.calibrated(1.0)
    steps = -(-round(settings.epochs * len(train)) // settings.batch_size)
    with progress.task(f"Training the {kind} discriminator", steps) as task:
        fit(judge, train, settings, lambda *at: task.advance(1, f"loss {at[2]:.3f}"))
    level = (before.temperature, before.sure_from)
    judge = judge.calibrated(*(calibration(*predict(judge, kept), level) if kept else level))
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


def _warn(kind: str, on: str, figures: dict[str, Any], progress: "Progress") -> None:
    """Says where the discriminator is not to be trusted."""
    where = "other characters" if on else "held-out statements"
    trained, before = figures[f"held out{on}"], figures[f"before{on}"]
    if trained is None:
        progress.say(f"{kind}: no labelled data of {where} to be measured on")
        return
    if not on and trained["macro_f1"] <= before["macro_f1"]:
        progress.say(
            f"warning: on {where} the {kind} discriminator is no better than it was before "
            "training: use discriminators.source: pretrained, or more data"
        )
    if on and trained["accuracy"] < before["accuracy"]:
        progress.say(
            f"warning: on {where} the {kind} discriminator is worse than before training: "
            "use it for this character alone"
        )
    for name, found in figures[f"baselines{on}"].items():
        if not is_better(trained, found):
            progress.say(
                f"warning: on {where} the {kind} discriminator is no better than {name}: "
                "do not trust it there, give it more data"
            )
