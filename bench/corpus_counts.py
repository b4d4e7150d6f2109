"""Prints the counts of data/README.md: how large the corpus is, and what its splits share.

python bench/corpus_counts.py

Two statements are the same if they are without the names of their characters and pronouns.
"""

import re
from collections import Counter
from pathlib import Path

import yaml

from apc_cli.models.labelled.corpus import Persona, load_corpus

DATA = Path(__file__).parent.parent / "data"
LEFT_OUT = {"he", "him", "his", "she", "her", "hers", "they", "them", "their", "its", "s"}


def size(personas: list[Persona]) -> Counter[str]:
    """How many personas, statements, queries, replies and labels there are."""
    exchanges = [exchange for persona in personas for exchange in persona.exchanges]
    replies = [reply for exchange in exchanges for reply in exchange.replies]
    return Counter(
        personas=len(personas),
        statements=sum(len(persona.statements) for persona in personas),
        queries=len(exchanges),
        replies=len(replies),
        entailed=sum(len(reply.entailed) for reply in replies),
        contradicted=sum(len(reply.contradicted) for reply in replies),
    )


def facts(personas: list[Persona]) -> list[str]:
    """Their statements without names and pronouns."""
    return [_fact(p.character, statement) for p in personas for statement in p.statements]


def _fact(character: str, statement: str) -> str:
    names = set(_words(character)) - {"the", "of"}
    return " ".join(word for word in _words(statement) if word not in names | LEFT_OUT)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def main() -> None:
    """Prints a line for all, and one a split."""
    files = sorted((DATA / "corpus").glob("*.yaml"))
    personas = [persona for path in files for persona in load_corpus(path, readings=False)]
    print("all", dict(size(personas)))
    splits = yaml.safe_load((DATA / "splits.yaml").read_text(encoding="utf-8"))
    found = {
        split: [persona for persona in personas if persona.character in names]
        for split, names in splits.items()
    }
    trained = {*facts(found["evaluator"]), *facts(found["reward"])}
    for split, members in found.items():
        shared = ""
        if split not in ("evaluator", "reward"):
            told = facts(members)
            share = sum(fact in trained for fact in told)
            shared = f"; {share} of its statements ({share / len(told):.0%}) in training too"
        print(f"{split} {dict(size(members))}{shared}")


if __name__ == "__main__":
    main()
