"""Fits the abstain bands of judges to the personas that were held out from their training.

    python bench/calibrate_judges.py --prompts 1500
    python bench/calibrate_judges.py --judges /tmp/run1 --pair evaluator --kind nli

Writes `sure_from` into judge.json; and into training.json how often verdicts were right at each
level of confidence, there (`calibrated_on`) and on the personas that only measure (`unseen`).
"""

import argparse
import json
import random
from pathlib import Path

from train_judges import LABELS, PAIRS, central_rows, corpus, examples_of

from apc_cli.models.judging.discriminator import METADATA, Discriminator
from apc_cli.models.judging.discriminator_training import (
    LabelledPrompt,
    confidence_for,
)
from apc_cli.models.labelled.corpus import Persona
from apc_cli.reports.agreement import Agreement, agreement


def main() -> None:
    """Prints a line and a reliability table a judge."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--judges", default="apc_cli/judges", help="directory of PAIR/KIND")
    parser.add_argument("--pair", choices=PAIRS, help="one pair alone")
    parser.add_argument("--kind", choices=LABELS, help="one kind alone")
    parser.add_argument("--prompts", type=int, help="of either personas, drawn at random")
    options = parser.parse_args()
    held_out, unseen = corpus("held_out"), corpus("measuring")
    for kind in [options.kind] if options.kind else LABELS:
        for pair in [options.pair] if options.pair else PAIRS:
            folder = Path(options.judges) / pair / kind
            parts = [_examples(kind, some, options.prompts) for some in (held_out, unseen)]
            calibrate(folder, LABELS[kind], *parts)


def calibrate(
    folder: Path,
    labels: tuple[str, ...],
    held_out: list[LabelledPrompt],
    unseen: list[LabelledPrompt],
) -> None:
    """One judge; what counts are the statements that are asked about or settled by the reply."""
    judge = Discriminator.load(str(folder), labels=labels)
    rows = central_rows(judge, held_out)
    sure_from = round(confidence_for(*rows), 4)
    found = {"calibrated_on": agreement(*rows, sure_from)}
    found["unseen"] = agreement(*central_rows(judge, unseen), sure_from)
    _write(folder / METADATA, {"sure_from": sure_from})
    _write(folder / "training.json", {name: figures.row() for name, figures in found.items()})
    print(f"{folder}: sure from {sure_from}")
    for name, figures in found.items():
        _show(name, figures)


def _examples(kind: str, personas: list[Persona], most: int | None) -> list[LabelledPrompt]:
    examples = examples_of(kind, personas, 3 if kind == "relevance" else 0, 0)
    return random.Random(0).sample(examples, min(most or len(examples), len(examples)))


def _write(path: Path, more: dict) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | more, indent=1) + "\n")


def _show(name: str, found: Agreement) -> None:
    right = "none" if found.sure_accuracy is None else f"{found.sure_accuracy:.3f}"
    print(
        f"  {name}: {found.rows} rows, accuracy {found.accuracy:.3f}, ECE "
        f"{found.calibration_error:.3f}, sure {found.sure_share:.3f}, right of them {right}"
    )
    cells = [f"{sure:.2f} → {share:.2f} ({n})" for sure, share, n in found.reliability]
    print(f"    {' · '.join(cells)}", flush=True)


if __name__ == "__main__":
    main()
