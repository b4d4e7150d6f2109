"""What `apc score --nearest` costs and saves on a large persona: python bench/statement_filter.py

The persona is made of the corpus files that only measure (AH and AI): statements of many
characters, told of one. With --invented it is the speaker's own statements and invented ones of
other kinds, no kind twice. Replies are those of the corpus. Everything is judged once, in full, by
the shipped evaluator pair; then again as if only the nearest statements had been, and as if only
those had been that turned out to matter most: no filter can do better than that.
"""

import argparse
import random
import time
from itertools import combinations
from pathlib import Path

import numpy as np

from apc_cli.models.judging.embedder import Embedder
from apc_cli.models.judging.scorer import Scorer
from apc_cli.models.judging.statement_filter import NearestStatements
from apc_cli.models.labelled.corpus import Persona, load_corpus
from apc_cli.models.labelled.personas import generate, kind_names

CORPUS = sorted((Path(__file__).parent.parent / "data" / "corpus").glob("A[HI]*.yaml"))
NAME = "Mara"
EACH = 4
"""Replies to a query."""


def main() -> None:
    options = _options()
    people = [person for path in CORPUS for person in load_corpus(path, readings=False)]
    random.Random(1).shuffle(people)
    told = [s.replace(p.character, NAME) for p in people for s in p.statements]
    asked = [max(p.exchanges, key=lambda e: len(e.replies)) for p in people]
    asked = [(p, e) for p, e in zip(people, asked, strict=True) if len(e.replies) >= EACH]
    asked = asked[: options.queries]
    groups = [
        [(_renamed(p, e.query), _renamed(p, reply.text)) for reply in e.replies[:EACH]]
        for p, e in asked
    ]
    personas = [
        (_with_invented(p, seed) if options.invented else told)[: options.statements]
        for seed, (p, _) in enumerate(asked)
    ]
    scorer, exact = (
        Scorer.load(relevance="judge:evaluator/relevance", nli="judge:evaluator/nli"),
        [],
    )
    start = time.perf_counter()
    for statements, group in zip(personas, groups, strict=True):
        exact.append(_contributions(scorer, tuple(statements), group, options.chunk))
        print(f"{len(exact)} queries, {time.perf_counter() - start:.0f} s", flush=True)
    embedder = Embedder(device="cpu")
    parts, full = np.array(exact), np.array(exact).sum(-1)
    usual = (parts.sum((0, 1)) - parts.sum(1)) / (EACH * (len(groups) - 1))
    usual = np.broadcast_to(usual[:, None], parts.shape)
    for share in (0.1, 0.15, 0.2, 0.3, 0.5):
        nearest = _nearest(share, embedder, personas, groups, parts.shape)
        count = round(share * options.statements)
        for name, kept, rest in (
            ("nearest", nearest, 0.0),
            ("nearest, the rest as for the other queries", nearest, usual),
            ("those that matter most", _largest(np.abs(parts), count), 0.0),
            ("those that differ most, the rest as for the other queries",
             _largest(np.abs(parts - usual), count), usual),
        ):  # fmt: skip
            _tell(f"{share:.0%} {name}", kept, np.where(kept, parts, rest).sum(-1), full)


def _with_invented(person: Persona, seed: int) -> list[str]:
    """The person's statements, and invented ones, each of a kind of its own."""
    names = random.Random(seed).sample(kind_names(), len(kind_names()))
    others = [
        other
        for first in range(0, len(names), 6)
        for other in generate(seed, names[first : first + 6], personas=1)
    ]
    told = [s.replace(p.character, NAME) for p in (person, *others) for s in p.statements]
    return list(dict.fromkeys(told))


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


def _nearest(
    share: float,
    embedder: Embedder,
    personas: list[list[str]],
    groups: list[list[tuple[str, str]]],
    shape: tuple[int, ...],
) -> np.ndarray:
    """True where the filter of --nearest keeps a statement: (queries, replies, statements)."""
    filtering, kept = NearestStatements(share, embedder), np.zeros(shape, bool)
    for q, (statements, group) in enumerate(zip(personas, groups, strict=True)):
        for r, reply in enumerate(group):
            kept[q, r, filtering.choose(tuple(statements), *reply)] = True
    return kept


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """True at the `count` largest of each reply."""
    kept = np.zeros(values.shape, bool)
    np.put_along_axis(kept, np.argsort(-values, -1)[..., :count], True, -1)
    return kept


def _tell(name: str, kept: np.ndarray, found: np.ndarray, full: np.ndarray) -> None:
    """One line: pairs visited, error of ΔAPC, pairs of replies in the same order."""
    error = np.abs(found - full)
    same = [
        (found[q, a] < found[q, b]) == (full[q, a] < full[q, b])
        for q in range(len(full))
        for a, b in combinations(range(EACH), 2)
    ]
    print(
        f"{name}: {kept.mean():.1%} of pairs judged; error of ΔAPC {error.mean():.3f} on average, "
        f"{error.max():.2f} at most; {np.mean(same):.3f} of pairs of replies in order"
    )


def _renamed(person: Persona, text: str) -> str:
    return text.replace(person.character, NAME)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--statements", type=int, default=240)
    parser.add_argument("--queries", type=int, default=16)
    parser.add_argument("--invented", action="store_true", help="the rest is invented")
    parser.add_argument("--chunk", type=int, default=24, help="statements in one reading")
    return parser.parse_args()


if __name__ == "__main__":
    main()
