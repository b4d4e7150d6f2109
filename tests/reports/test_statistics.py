"""Intervals and tests whose values can be worked out by hand."""

import pytest

from apc_cli.reports.statistics import bootstrap_interval, holm, paired_gain


def test_the_interval_of_a_constant_is_the_constant():
    assert bootstrap_interval([0.5] * 7, 100, seed=3) == (0.5, 0.5)


def test_the_interval_is_seeded_and_holds_the_mean():
    values = [0.0, 1.0, 2.0, 5.0]
    one, again, other = (bootstrap_interval(values, 400, seed=s) for s in (1, 1, 2))
    assert one == again != other
    assert 0.0 <= one[0] < 2.0 < one[1] <= 5.0


@pytest.mark.parametrize(
    ("after", "p"),
    # sums of ±1 ±2 ±4 are −7 −5 −3 −1 1 3 5 7, each as likely; p is twice the smaller tail
    [((1, 2, 4), 0.25), ((-1, 2, 4), 0.5), ((-1, -2, -4), 0.25), ((1, 2, -4), 1.0)],
)
def test_sign_flip_by_hand(after, p):
    gain = paired_gain([0, 0, 0], after, 1000, seed=0)
    assert gain.p == pytest.approx(p)
    assert gain.delta == pytest.approx(sum(after) / 3)


def test_nothing_can_be_said_of_one_query_or_of_no_change():
    assert paired_gain([0], [1], 100, 0).p == 1.0
    same = paired_gain([1, 2], [1, 2], 100, 0)
    assert (same.delta, same.ci95, same.p) == (0.0, (0.0, 0.0), 1.0)


def test_gain_is_per_query():
    gain = paired_gain([1.0, 3.0], [2.0, 4.0], 50, 0)
    assert (gain.delta, gain.ci95) == (1.0, (1.0, 1.0))


def test_holm_by_hand():
    # 3 · 0.01, then 2 · 0.03, then 1 · 0.04 raised to what came before it
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
