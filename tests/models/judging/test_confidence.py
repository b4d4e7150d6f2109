"""From which confidence on a judge is right often enough to be called sure."""

import numpy as np
import pytest

from apc_cli.models.judging.discriminator_training import calibration, confidence_for
from apc_cli.records import SURE_FROM


def rows(*groups):
    """(targets, probabilities) of (confidence, how many, how many of them right)."""
    confidence = np.concatenate([np.full(n, sure) for sure, n, _ in groups])
    right = np.concatenate([np.arange(n) < k for _, n, k in groups])
    found = np.stack([confidence, 1 - confidence], axis=1)
    return np.eye(2)[np.where(right, 0, 1)], found


def test_worked_by_hand():
    # 0.99: 100 of 100 right; with 0.9: 190 of 200 = 95%; with 0.7: 229 of 260 = 88%
    targets, found = rows((0.99, 100, 100), (0.9, 100, 90), (0.7, 60, 39))
    assert confidence_for(targets, found) == pytest.approx(0.9)
    assert confidence_for(targets, found, right=0.85) == pytest.approx(0.7)


def test_nothing_is_sure_where_too_little_is_right():
    assert confidence_for(*rows((0.99, 200, 150))) == 1


def test_few_rows_leave_a_calibration_as_it_was():
    assert calibration(*rows((0.99, 99, 40))) == (1, SURE_FROM)
    assert calibration(*rows((0.99, 99, 40)), (1.7, 0.6)) == (1.7, 0.6)
    temperature, sure_from = calibration(*rows((0.99, 75, 75), (0.99, 25, 0)), (1.7, 0.6))
    assert temperature > 3 and sure_from == 1, "three in four are right, however sure they are"
