"""From the probabilities of a reply's constraints to its score, whoever gave them."""

from collections.abc import Sequence

import numpy as np

from apc_cli.apc import apc_scores, constraint_probability, satisfied_interval, violation
from apc_cli.records import Constraint, Score


def score_of(statements: Sequence[str], relevance: np.ndarray, verdict: np.ndarray) -> Score:
    """The score of one reply from P_g (statements,) and P_h (statements, 3)."""
    total = apc_scores(relevance, verdict[None])
    satisfaction = constraint_probability(relevance, verdict)
    constraints = tuple(
        Constraint(
            statement=statement,
            relevance=float(relevance[i]),
            contradicted=float(verdict[i][0]),
            neutral=float(verdict[i][1]),
            entailed=float(verdict[i][2]),
            satisfaction=float(satisfaction[i]),
            violation=violation(float(relevance[i]), verdict[i]),
        )
        for i, statement in enumerate(statements)
    )
    numbers = (float(array[0]) for array in total)
    return Score(*numbers, satisfied_interval(satisfaction), constraints)
