"""From the probabilities of a reply's constraints to its score, whoever gave them."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from apc_cli.apc import apc_scores, constraint_probability, satisfied_interval, violation
from apc_cli.records import SURE_FROM, Constraint, Score


def score_of(
    statements: Sequence[str],
    relevance: np.ndarray,
    verdict: np.ndarray,
    sure_from: tuple[float, float] = (SURE_FROM, SURE_FROM),
    weights: Mapping[str, float] = MappingProxyType({}),
) -> Score:
    """The score of one reply from P_g (statements,) and P_h (statements, 3).

    `sure_from`: how probable the likeliest label of each must be for a constraint to be sure;
    `weights`: how much a statement counts, 1 where it does not say.
    """
    counted = np.array([weights.get(statement, 1.0) for statement in statements])
    total = apc_scores(relevance, verdict[None], counted)
    satisfaction = constraint_probability(relevance, verdict)
    sure = (np.maximum(relevance, 1 - relevance) >= sure_from[0]) & (
        verdict.max(1, initial=0) >= sure_from[1]
    )
    constraints = tuple(
        Constraint(
            statement=statement,
            relevance=float(relevance[i]),
            contradicted=float(verdict[i][0]),
            neutral=float(verdict[i][1]),
            entailed=float(verdict[i][2]),
            satisfaction=float(satisfaction[i]),
            violation=violation(float(relevance[i]), verdict[i]),
            sure=bool(sure[i]),
        )
        for i, statement in enumerate(statements)
    )
    numbers = (float(array[0]) for array in total)
    return Score(*numbers, satisfied_interval(satisfaction), constraints)
