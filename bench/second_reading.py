"""Helps a second reader label the corpus without seeing the author's labels.

    python bench/second_reading.py blind data/corpus/A1.yaml    # what the reader is shown
    python bench/second_reading.py check data/corpus/A1.yaml    # is data/readings/A1.yaml complete?
    python bench/second_reading.py agree                        # agreement over all files
"""

import argparse
import json
from collections import Counter
from pathlib import Path

import numpy as np

from apc_cli.models.corpus import load_corpus, reading_of
from apc_cli.records import NLI_LABELS, RELEVANCE_LABELS

CORPUS = Path(__file__).parent.parent / "data" / "corpus"


def blind(path: Path) -> None:
    """Prints the personas without their labels."""
    for persona in load_corpus(path):
        print(f"- character: {persona.character}\n  statements:")
        for number, statement in enumerate(persona.statements):
            print(f"    {number}: {statement}")
        print("  exchanges:")
        for number, exchange in enumerate(persona.exchanges):
            print(f"    - query {number}: {exchange.query}")
            for place, reply in enumerate(exchange.replies):
                print(f"        reply {place}: {json.dumps(reply.text, ensure_ascii=False)}")


def check(path: Path) -> None:
    """Says whether the second reading of the file has the corpus file's shape."""
    read = reading_of(path)
    if read is None:
        raise SystemExit(f"there is no {path.parent.parent / 'readings' / path.name}")
    print(f"{path.name}: complete, {len(read)} personas")


def agree(folder: Path) -> None:
    """Prints how often author and reader gave the same label, and Cohen's kappa."""
    counts = {"relevance": np.zeros((2, 2), int), "nli": np.zeros((3, 3), int)}
    files: Counter[str] = Counter()
    for path in sorted(folder.glob("*.yaml")):
        read = reading_of(path)
        files["read twice" if read else "read once"] += 1
        if not read:
            continue
        for author, reader in zip(load_corpus(path, readings=False), read, strict=True):
            size = len(author.statements)
            for one, other in zip(author.exchanges, reader.exchanges, strict=True):
                pairs = [(int(i in one.relevant), int(i in other.relevant)) for i in range(size)]
                np.add.at(counts["relevance"], tuple(np.array(pairs).T), 1)
                for a, b in zip(one.replies, other.replies, strict=True):
                    pairs = [(a.label(i), b.label(i)) for i in range(size)]
                    np.add.at(counts["nli"], tuple(np.array(pairs).T), 1)
    print(dict(files))
    for kind, labels in (("relevance", RELEVANCE_LABELS), ("nli", NLI_LABELS)):
        table = counts[kind]
        total = max(1, table.sum())
        observed = np.trace(table) / total
        expected = float((table.sum(0) * table.sum(1)).sum()) / total**2
        kappa = (observed - expected) / max(1e-9, 1 - expected)
        print(f"{kind}: {table.sum()} labels, agreement {observed:.4f}, kappa {kappa:.3f}")
        for label, row in zip(labels, table.tolist(), strict=True):
            print(f"  author {label}: reader {dict(zip(labels, row, strict=True))}")


def main() -> None:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("command", choices=("blind", "check", "agree"))
    parser.add_argument("file", type=Path, nargs="?", default=CORPUS)
    options = parser.parse_args()
    {"blind": blind, "check": check, "agree": agree}[options.command](options.file)


if __name__ == "__main__":
    main()
