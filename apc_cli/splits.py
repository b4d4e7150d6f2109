"""Which rows are held out: decided by the seed and the rows themselves, in one place."""

import random
from collections.abc import Sequence

from apc_cli.records import Query


def hold_out_queries(
    queries: Sequence[Query], count: int, seed: int
) -> tuple[list[Query], list[Query]]:
    """(queries to train on, queries to evaluate on); at most a third is held out."""
    shuffled = list(queries)
    random.Random(f"queries {seed}").shuffle(shuffled)
    count = min(count, len(shuffled) // 3)
    return shuffled[count:], shuffled[:count]


def hold_out_statements(
    statements: Sequence[str], share: float, seed: int
) -> tuple[set[str], set[str]]:
    """(statements to train on, statements to test on), disjoint and shuffled."""
    shuffled = sorted(set(statements))
    random.Random(f"statements {seed}").shuffle(shuffled)
    count = round(share * len(shuffled))
    return set(shuffled[count:]), set(shuffled[:count])
