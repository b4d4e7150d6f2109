import numpy as np
import pytest

from apc_cli.reports.agreement import agreement, baseline_lines, is_better, ordered_pairs


def test_calibration_worked_by_hand():
    # two bins: 0.55 twice, both right; 0.92, 0.94 and 1.0, of which 0.94 is wrong
    confidence = np.array([0.92, 0.94, 0.55, 0.55, 1.0])
    found = np.stack([confidence, 1 - confidence], axis=1)
    report = agreement(np.eye(2)[[0, 1, 0, 0, 0]], found)
    assert [n for *_, n in report.reliability] == [2, 3]
    (low, right, _), (high, mostly, _) = report.reliability
    assert (low, right) == pytest.approx((0.55, 1.0))
    assert (high, mostly) == pytest.approx((2.86 / 3, 2 / 3))
    expected = (2 * 0.45 + 3 * (2.86 / 3 - 2 / 3)) / 5
    assert report.calibration_error == pytest.approx(expected)


def test_agreement_worked_by_hand():
    targets = np.eye(2)[[0, 0, 0, 1]]
    report = agreement(targets, np.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.3, 0.7]]))
    assert report.rows == 4 and report.accuracy == 0.75 and report.majority == 0.75
    assert report.confusion == [[2, 1], [0, 1]]
    assert report.macro_f1 == pytest.approx((4 / 5 + 2 / 3) / 2)
    # the one "1" (0.7) is above all three "0"s (0.1, 0.2, 0.6)
    assert report.auc == 1.0
    assert report.brier == pytest.approx(2 * (0.1**2 + 0.2**2 + 0.6**2 + 0.3**2) / 4)


def test_sure_verdicts_worked_by_hand():
    found = np.array([[0.9, 0.1], [0.85, 0.15], [0.4, 0.6], [0.3, 0.7]])
    report = agreement(np.eye(2)[[0, 1, 0, 1]], found, sure_from=0.7)
    # 0.9 (right), 0.85 (wrong) and 0.7 (right) are sure; 0.6 is not
    assert report.sure_share == 0.75 and report.sure_accuracy == pytest.approx(2 / 3)
    assert agreement(np.eye(2)[[0]], np.array([[0.5, 0.5]]), sure_from=0.7).sure_accuracy is None


def test_better_is_in_both_figures():
    judge = {"accuracy": 0.7, "macro_f1": 0.6}
    assert is_better(judge, {"accuracy": 0.6, "macro_f1": 0.5})
    assert not is_better(judge, {"accuracy": 0.7, "macro_f1": 0.5})
    assert not is_better(judge, {"accuracy": 0.6, "macro_f1": 0.65})
    report = {"judge": judge, "a": judge, "b": {"accuracy": 0.6, "macro_f1": 0.5}}
    [line] = baseline_lines("nli", report | {"beats_baselines": False})
    assert line.startswith("warning: the nli judge is no better than a on these rows")


def test_a_label_that_never_occurs_has_no_area():
    report = agreement(np.eye(3)[[0, 0]], np.array([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1]]))
    assert report.auc is None and report.accuracy == 0.5


def test_ordered_pairs_worked_by_hand():
    # 1 > 2 right, 1 > 3 right, 2 > 3 wrong; ranks that are equal do not count; a tie is wrong
    assert ordered_pairs([[(1, 3.0), (2, 1.0), (3, 2.0)], [(1, 1.0), (1, 2.0)]]) == (2, 3)
    assert ordered_pairs([[(2, 1.0), (1, 1.0)]]) == (0, 1)
    assert ordered_pairs([[(2, 0.0), (1, 1.0)], []]) == (1, 1)
