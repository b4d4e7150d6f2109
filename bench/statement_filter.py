"""What `apc score --nearest` costs and saves on a large persona: python bench/statement_filter.py

The persona is made of the corpus files that only measure (AH and AI): statements of many
characters, told of one. Replies are those of the corpus. Everything is judged once, in full, by the
shipped evaluator pair; then again as if only the nearest statements had been.
"""

import argparse
import random
import time
from itertools import combinations
from pathlib import Path

import numpy as np

from apc_cli.models.corpus import load_corpus
from apc_cli.models.embedder import Embedder
from apc_cli.models.scorer import Scorer
from apc_cli.models.statement_filter import NearestStatements

CORPUS = sorted((Path(__file__).parent.parent / "data" / "corpus").glob("A[HI]*.yaml"))
NAME = "Mara"
EACH = 4
"""Replies to a query."""


def main() -> None:
    options = _options()
    people = [person for path in CORPUS for person in load_corpus(path, readings=False)]
    random.Random(1).shuffle(people)
    told = [s.replace(p.character, NAME) for p in people for s in p.statements]
    statements = tuple(told[: options.statements])
    asked = [max(p.exchanges, key=lambda e: len(e.replies)) for p in people]
    asked = [(p, e) for p, e in zip(people, asked, strict=True) if len(e.replies) >= EACH]
    groups = [
        [(_renamed(p, e.query), _renamed(p, reply.text)) for reply in e.replies[:EACH]]
        for p, e in asked[: options.queries]
    ]
    scorer, exact = (
        Scorer.load(relevance="judge:evaluator/relevance", nli="judge:evaluator/nli"),
        [],
    )
    start = time.perf_counter()
    for group in groups:
        exact.append(_contributions(scorer, statements, group, options.chunk))
        print(f"{len(exact)} queries, {time.perf_counter() - start:.0f} s", flush=True)
    embedder = Embedder(device="cpu")
    for share in (0.1, 0.15, 0.2, 0.3, 0.5):
        _compare(share, NearestStatements(share, embedder), statements, groups, np.array(exact))


def _contributions(
    scorer: Scorer, statements: tuple[str, ...], group: list[tuple[str, str]], chunk: int
) -> list[list[float]]:
    """What each statement adds to ΔAPC: (replies, statements)."""
    parts: list[list[float]] = [[] for _ in group]
    for first in range(0, len(statements), chunk):
        some = statements[first : first + chunk]
        for part, score in zip(parts, scorer.score_all(NAME, some, group), strict=True):
            part += [
                c.relevance * c.entailed - (1 - c.relevance) * c.contradicted
                for c in score.constraints
            ]
    return parts


def _compare(
    share: float,
    nearest: NearestStatements,
    statements: tuple[str, ...],
    groups: list[list[tuple[str, str]]],
    exact: np.ndarray,
) -> None:
    """One line: pairs visited, error of ΔAPC, pairs of replies in the same order."""
    kept = np.zeros(exact.shape, bool)
    for q, group in enumerate(groups):
        for r, reply in enumerate(group):
            kept[q, r, nearest.choose(statements, *reply)] = True
    full, found = exact.sum(-1), (exact * kept).sum(-1)
    error = np.abs(found - full)
    same = [
        (found[q, a] < found[q, b]) == (full[q, a] < full[q, b])
        for q in range(len(groups))
        for a, b in combinations(range(EACH), 2)
    ]
    print(
        f"nearest {share:.0%}: {kept.mean():.1%} of pairs judged; error of ΔAPC {error.mean():.3f} "
        f"on average, {error.max():.2f} at most; {np.mean(same):.3f} of pairs of replies in order"
    )


def _renamed(person: object, text: str) -> str:
    return text.replace(person.character, NAME)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--statements", type=int, default=240)
    parser.add_argument("--queries", type=int, default=16)
    parser.add_argument("--chunk", type=int, default=24, help="statements in one reading")
    return parser.parse_args()


if __name__ == "__main__":
    main()
