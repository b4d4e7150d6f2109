"""Helps a second reader label the corpus without seeing the author's labels.

python bench/second_reading.py blind data/corpus/A1.yaml             # what the reader is shown
python bench/second_reading.py adopt data/corpus/A1.yaml A1.yaml     # writes data/readings/A1.yaml
python bench/second_reading.py agree                                 # agreement over all files

The answers that `adopt` takes (a file of any name) have the shape of a file of data/readings/, the
replies in the order that `blind` shows. Answers that do not fit are refused, and nothing changes.
"""

import argparse
import hashlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import yaml

from apc_cli.errors import DataError
from apc_cli.models.labelled.corpus import Exchange, LabelledReply, load_corpus, reading_of
from apc_cli.records import NLI_LABELS, RELEVANCE_LABELS

CORPUS = Path(__file__).parent.parent / "data" / "corpus"


def blind(path: Path) -> None:
    """Prints the personas without their labels."""
    for persona in load_corpus(path, readings=False):
        print(f"- character: {persona.character}\n  statements:")
        for number, statement in enumerate(persona.statements):
            print(f"    {number}: {statement}")
        print("  exchanges:")
        for number, exchange in enumerate(persona.exchanges):
            print(f"    - query {number}: {exchange.query}")
            for place, reply in enumerate(shown_order(exchange)):
                print(f"        reply {place}: {json.dumps(reply.text, ensure_ascii=False)}")


def shown_order(exchange: Exchange) -> list[LabelledReply]:
    """The replies as the reader is shown them."""
    return sorted(exchange.replies, key=lambda r: hashlib.sha256(r.text.encode()).digest())


def adopt(path: Path, answers: Path) -> None:
    """Puts the reader's answers into data/readings/, in the corpus file's order."""
    entries = yaml.safe_load(answers.read_text(encoding="utf-8"))
    for persona, entry in zip(load_corpus(path, readings=False), entries, strict=True):
        for exchange, labels in zip(persona.exchanges, entry["exchanges"], strict=True):
            shown = zip(shown_order(exchange), labels["replies"], strict=True)
            given = {reply.text: label for reply, label in shown}
            labels["replies"] = [given[reply.text] for reply in exchange.replies]
    target = path.parent.parent / "readings" / path.name
    text = yaml.safe_dump(entries, sort_keys=False, default_flow_style=None, allow_unicode=True)
    before = target.read_text(encoding="utf-8") if target.exists() else None
    target.write_text(text, encoding="utf-8")
    try:
        reading_of(path)
    except DataError:
        target.unlink()
        if before is not None:
            target.write_text(before, encoding="utf-8")
        raise
    print(f"{target.name}: {len(entries)} personas")


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
    parser.add_argument("command", choices=("blind", "adopt", "agree"))
    parser.add_argument("file", type=Path, nargs="?", default=CORPUS)
    parser.add_argument("answers", type=Path, nargs="?")
    options = parser.parse_args()
    if options.command == "adopt":
        adopt(options.file, options.answers)
    else:
        {"blind": blind, "agree": agree}[options.command](options.file)


if __name__ == "__main__":
    main()
