"""Intervals and tests over queries: replies to one query are not independent, queries are."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import permutation_test


@dataclass(frozen=True)
class Gain:
    """The mean of paired differences, its bootstrap 95% interval, and a sign-flip test's p."""

    delta: float
    ci95: tuple[float, float]
    p: float


def paired_gain(before: Sequence[float], after: Sequence[float], resamples: int, seed: int) -> Gain:
    """The gain from before to after, one pair of means per query."""
    differences = np.asarray(after, float) - np.asarray(before, float)
    low, high = bootstrap_interval(differences, resamples, seed)
    return Gain(float(differences.mean()), (low, high), _sign_flip(differences, resamples, seed))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values corrected for how many there are, by Holm's step-down method.

    Rejecting those below 0.05 then errs at all in at most 5% of such families of tests.
    """
    order = np.argsort(p_values, kind="stable")
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected


def bootstrap_interval(values: Sequence[float], resamples: int, seed: int) -> tuple[float, float]:
    """The percentile 95% interval of the mean, resampling queries."""
    found = np.asarray(values, float)
    draws = np.random.default_rng(seed).integers(0, len(found), (resamples, len(found)))
    low, high = np.percentile(found[draws].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def _sign_flip(differences: np.ndarray, resamples: int, seed: int) -> float:
    if len(differences) < 2 or not differences.any():
        return 1.0
    test = permutation_test(
        (differences,),
        lambda sample, axis: np.mean(sample, axis=axis),
        permutation_type="samples",
        n_resamples=resamples,
        rng=np.random.default_rng(seed),
    )
    return float(test.pvalue)
