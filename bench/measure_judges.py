"""How judges do on the corpus personas that none was trained on, nor any setting chosen on.

    python bench/measure_judges.py
    python bench/measure_judges.py --judges /tmp/run1 --pair evaluator

What counts are the statements that are asked about or settled by the reply, as in training.
"""

import argparse

from train_judges import LABELS, PAIRS, central_rows, corpus, examples_of

from apc_cli.models.judging.discriminator import Discriminator
from apc_cli.reports.agreement import agreement


def main() -> None:
    """Prints one line a judge."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--judges", default="apc_cli/judges", help="directory of PAIR/KIND")
    parser.add_argument("--pair", choices=PAIRS, help="one pair alone")
    options = parser.parse_args()
    personas = corpus("measuring")
    print(f"{len(personas)} personas")
    for kind, labels in LABELS.items():
        examples = examples_of(kind, personas, 3, 0)
        for pair in [options.pair] if options.pair else PAIRS:
            judge = Discriminator.load(f"{options.judges}/{pair}/{kind}", labels=labels)
            figures = agreement(*central_rows(judge, examples))
            print(
                f"{pair} {kind}: {figures.rows} rows, accuracy {figures.accuracy:.3f}, macro-F1 "
                f"{figures.macro_f1:.3f}, ECE {figures.calibration_error:.3f}, Brier "
                f"{figures.brier:.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
