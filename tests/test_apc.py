"""The formulas, against numbers worked by hand (paper section 3)."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apc_cli.apc import apc_scores, constraint_probability, satisfied_interval, violation


def test_constraint_probability_worked_by_hand():
    # active: 0.8 · 0.7 + 0.2 · 0.9 = 0.74; mostly passive: 0.2 · 0.7 + 0.8 · 0.9 = 0.86
    found = constraint_probability([0.8, 0.2], [[0.1, 0.2, 0.7], [0.1, 0.2, 0.7]])
    assert found == pytest.approx([0.74, 0.86])


def test_apc_scores_worked_by_hand():
    scores = apc_scores([0.8, 0.2], [[[0.1, 0.2, 0.7], [0.1, 0.2, 0.7]]])
    assert scores.apc == pytest.approx([1.60])
    assert scores.active_reward == pytest.approx([0.8 * 0.7 + 0.2 * 0.7])
    assert scores.passive_penalty == pytest.approx([0.2 * 0.1 + 0.8 * 0.1])
    assert scores.delta == pytest.approx([0.70 - 0.10])


def test_always_neutral_reply_earns_nothing():
    scores = apc_scores([0.9, 0.1, 0.5], np.tile([0.0, 1.0, 0.0], (1, 3, 1)))
    assert scores.delta == pytest.approx([0.0])
    assert scores.apc == pytest.approx([0.1 + 0.9 + 0.5])


@given(st.lists(st.tuples(*[st.floats(0, 1)] * 4), min_size=1, max_size=6))
def test_delta_is_apc_less_what_a_neutral_reply_earns(rows):
    relevance = np.array([row[0] for row in rows])
    verdict = np.array([row[1:] for row in rows]) + 1e-6
    verdict /= verdict.sum(-1, keepdims=True)
    scores = apc_scores(relevance, verdict[None])
    assert scores.delta[0] == pytest.approx(scores.apc[0] - (1 - relevance).sum(), abs=1e-9)
    assert 0 <= scores.apc[0] <= len(rows)


@pytest.mark.parametrize(
    ("relevance", "verdict", "expected"),
    [
        (0.9, [0.1, 0.2, 0.7], None),
        (0.9, [0.1, 0.7, 0.2], "active"),
        (0.9, [0.7, 0.2, 0.1], "active"),
        (0.1, [0.7, 0.2, 0.1], "passive"),
        (0.1, [0.2, 0.7, 0.1], None),
    ],
)
def test_violation(relevance, verdict, expected):
    assert violation(relevance, verdict) == expected


def test_the_interval_counts_satisfied_constraints():
    # Certain ones and impossible ones leave no doubt; four even coins give 0 … 4: P(0) = 1/16.
    assert satisfied_interval([1.0, 1.0, 0.0]) == (2, 2)
    assert satisfied_interval([0.5] * 4) == (0, 4)
    # Of 20 at 0.9, 18 are expected; P(X <= 14) = 0.011, P(X <= 15) = 0.043, P(X <= 19) = 0.878.
    assert satisfied_interval([0.9] * 20) == (15, 20)
    assert satisfied_interval([1 + 1e-9]) == (1, 1)
    assert satisfied_interval([]) == (0, 0)
    # 400 at 0.5: 200 ± 1.96 · 10, the binomial's quantiles.
    assert satisfied_interval([0.5] * 400) == (180, 220)


def test_weights_say_how_much_a_statement_counts():
    relevance, nli = [0.8, 0.1], [[[0.1, 0.2, 0.7], [0.6, 0.3, 0.1]]]
    plain, twice = apc_scores(relevance, nli), apc_scores(relevance, nli, [2.0, 0.0])
    assert twice.apc[0] == pytest.approx(2 * 0.74)
    assert twice.delta[0] == pytest.approx(2 * (0.56 - 0.02))
    assert apc_scores(relevance, nli, [1.0, 1.0]) == plain
    halves = apc_scores([0.8, 0.8], [[nli[0][0]] * 2], [0.5, 0.5])
    assert halves.apc[0] == pytest.approx(0.74)
