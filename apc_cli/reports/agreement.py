"""How well a judge agrees with labels: is it right, does it know when it is not, does it rank?"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix, f1_score, roc_auc_score

from apc_cli.records import SURE_FROM


@dataclass(frozen=True)
class Agreement:
    """Predicted probabilities against labels.

    Attributes:
        accuracy: share of rows whose likeliest label is the right one.
        macro_f1: F1 of each label, averaged over labels.
        auc: area under the ROC curve of each label that occurs, averaged; None for one label alone.
        calibration_error: expected calibration error: mean |confidence − accuracy| over the bins
            of `reliability`, weighted by size.
        brier: mean squared distance to the one-hot label, summed over labels: 0 … 2.
        majority: accuracy of always giving the commonest label.
        confusion: `confusion[i][j]` rows of true label i were given label j.
        reliability: (mean confidence, accuracy, rows) of each of ten equal bins of confidence that
            holds any rows, from unsure to sure.
        sure_share: share of rows whose likeliest label is as probable as a sure verdict's must be.
        sure_accuracy: accuracy on those rows alone; None without any.
    """

    rows: int
    accuracy: float
    macro_f1: float
    auc: float | None
    calibration_error: float
    brier: float
    majority: float
    confusion: list[list[int]]
    reliability: list[tuple[float, float, int]]
    sure_share: float
    sure_accuracy: float | None

    def row(self) -> dict[str, Any]:
        """The figures as plain JSON values."""
        return asdict(self)


def agreement(
    targets: np.ndarray, probabilities: np.ndarray, sure_from: float = SURE_FROM
) -> Agreement:
    """Compares probabilities (rows, labels) with target probabilities (rows, labels).

    A verdict is sure when its likeliest label has at least the probability `sure_from`.
    """
    labels = list(range(targets.shape[1]))
    true, given = targets.argmax(1), probabilities.argmax(1)
    confusion = confusion_matrix(true, given, labels=labels)
    truth = np.eye(len(labels))[true]
    bins = reliability(probabilities.max(1), true == given)
    sure = probabilities.max(1) >= sure_from
    return Agreement(
        rows=len(true),
        accuracy=float((true == given).mean()),
        macro_f1=float(f1_score(true, given, labels=labels, average="macro", zero_division=0)),
        auc=_mean_auc(truth, probabilities),
        calibration_error=sum(abs(sure - right) * n for sure, right, n in bins) / len(true),
        brier=float(((probabilities - truth) ** 2).sum(1).mean()),
        majority=float(confusion.sum(1).max() / len(true)),
        confusion=confusion.tolist(),
        reliability=bins,
        sure_share=float(sure.mean()),
        sure_accuracy=float((true == given)[sure].mean()) if sure.any() else None,
    )


def is_better(judge: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether a judge's figures beat another's on the same rows, in accuracy and in macro-F1.

    Where one label is frequent, guessing it is accurate; where all are alike, macro-F1 is noisier.
    """
    return judge["accuracy"] > other["accuracy"] and judge["macro_f1"] > other["macro_f1"]


def baseline_lines(kind: str, report: Mapping[str, Any]) -> Iterator[str]:
    """A warning for each baseline that a judge is not better than."""
    for name, found in report.items():
        if name not in ("judge", "beats_baselines") and not is_better(report["judge"], found):
            yield (
                f"warning: the {kind} judge is no better than {name} on these rows: "
                "do not trust it there"
            )


def reliability(
    confidence: np.ndarray, correct: np.ndarray, bins: int = 10
) -> list[tuple[float, float, int]]:
    """(mean confidence, accuracy, rows) of each bin of confidence that holds any rows."""
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    return [
        (
            float(confidence[place == b].mean()),
            float(correct[place == b].mean()),
            int((place == b).sum()),
        )
        for b in np.unique(place)
    ]


def ordered_pairs(groups: Sequence[Sequence[tuple[int, float]]]) -> tuple[int, int]:
    """(pairs in the right order, pairs in all) over groups of (rank, score); rank 1 is best.

    A tie in score is not in order; replies of one rank make no pair.
    """
    right = total = 0
    for group in groups:
        for (rank, score), (other_rank, other_score) in combinations(group, 2):
            if rank != other_rank:
                total += 1
                right += (rank < other_rank) == (score > other_score) and score != other_score
    return right, total


def _mean_auc(truth: np.ndarray, probabilities: np.ndarray) -> float | None:
    areas = [
        roc_auc_score(truth[:, label], probabilities[:, label])
        for label in range(truth.shape[1])
        if 0 < truth[:, label].sum() < len(truth)
    ]
    return float(np.mean(areas)) if areas else None
