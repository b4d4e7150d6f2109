"""The Active-Passive-Constraint score: arrays in, arrays out (paper section 3).

A statement that is relevant to the query is an *active* constraint: the reply must entail it. Any
other is *passive*: the reply must not contradict it. With relevance P_g and NLI P_h, a statement is
satisfied with probability

    P(s) = P_g · P_h(entailed) + (1 − P_g) · (1 − P_h(contradicted))

Example: P_g = 0.8 and P_h = (contradicted 0.1, neutral 0.2, entailed 0.7) give
0.8 · 0.7 + 0.2 · 0.9 = 0.74, of which an always-neutral reply would earn 0.2: ΔAPC = 0.54.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from apc_cli.records import NLI_LABELS

_CONTRADICTED, _NEUTRAL, _ENTAILED = (
    NLI_LABELS.index(label) for label in ("contradicted", "neutral", "entailed")
)


class ApcScores(NamedTuple):
    """The four numbers of each reply; `delta = active_reward − passive_penalty`."""

    apc: NDArray[np.float64]
    delta: NDArray[np.float64]
    active_reward: NDArray[np.float64]
    passive_penalty: NDArray[np.float64]


def constraint_probability(relevance: ArrayLike, nli: ArrayLike) -> NDArray[np.float64]:
    """P(s): the probability that each constraint is satisfied.

    Args:
        relevance: P_g, shape (..., statements).
        nli: P_h in the order of NLI_LABELS, shape (..., statements, 3).
    """
    active, verdict = np.asarray(relevance, float), np.asarray(nli, float)
    return active * verdict[..., _ENTAILED] + (1 - active) * (1 - verdict[..., _CONTRADICTED])


def apc_scores(relevance: ArrayLike, nli: ArrayLike, weights: ArrayLike = 1.0) -> ApcScores:
    """The scores of several replies to one query.

    Args:
        relevance: P_g, shape (statements,).
        nli: P_h, shape (replies, statements, 3).
        weights: how much each statement counts, shape (statements,); the paper's is 1.

    Returns:
        Arrays of shape (replies,), in expected satisfied constraints.
    """
    active, verdict = np.asarray(relevance, float), np.asarray(nli, float)
    weight = np.asarray(weights, float)
    reward = (weight * active * verdict[..., _ENTAILED]).sum(-1)
    penalty = (weight * (1 - active) * verdict[..., _CONTRADICTED]).sum(-1)
    total = (weight * constraint_probability(active, verdict)).sum(-1)
    return ApcScores(total, reward - penalty, reward, penalty)


def satisfied_interval(satisfaction: ArrayLike) -> tuple[int, int]:
    """Between how many and how many constraints one reply satisfies, with 95% probability.

    Each constraint is satisfied on its own with its P(s), so this tells of the discriminators'
    doubt as they state it; `apc check-judge` shows how well they do.

    Args:
        satisfaction: P(s), shape (statements,).
    """
    chance = np.ones(1)  # chance[k]: k of the constraints so far are satisfied
    for p in np.clip(np.asarray(satisfaction, float), 0, 1):
        chance = np.convolve(chance, (1 - p, p))
    low, high = np.searchsorted(chance.cumsum(), (0.025, 0.975))
    return int(low), int(high)


def violation(relevance: float, verdict: ArrayLike) -> str | None:
    """`active` for a relevant statement that is not entailed, `passive` for another contradicted.

    The paper's report: an active statement whose most likely label is neutral (or contradicted), a
    passive one whose most likely label is contradicted.
    """
    likely = int(np.argmax(verdict))
    if relevance >= 0.5:
        return None if likely == _ENTAILED else "active"
    return "passive" if likely == _CONTRADICTED else None
