"""How far apart the replies of preference pairs are: quartiles, a histogram, and lengths."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from apc_cli.records import PreferencePair
from apc_cli.reports.style import length

_BINS = 8


def pair_figures(pairs: Sequence[PreferencePair]) -> dict[str, Any]:
    """Figures of the pairs' gaps in APC and of the lengths of both sides, as plain JSON.

    `longer_chosen` is the share of pairs whose chosen reply is longer: far from a half, training
    also teaches a length.
    """
    gaps = np.array([pair.score_chosen - pair.score_rejected for pair in pairs])
    chosen, rejected = (
        np.array([length(getattr(pair, side)[0]["content"]) for pair in pairs])
        for side in ("chosen", "rejected")
    )
    counts, edges = np.histogram(gaps, bins=_BINS)
    return {
        "pairs": len(pairs),
        "prompts": len({pair.prompt[-1]["content"] for pair in pairs}),
        "gap": {
            "mean": _round(gaps.mean()),
            **{n: _round(q) for n, q in zip(_QUARTILES, np.percentile(gaps, _AT), strict=True)},
        },
        "gap_histogram": [
            [_round(low), _round(high), int(count)]
            for low, high, count in zip(edges, edges[1:], counts, strict=False)
        ],
        "words": {"chosen": _round(chosen.mean(), 1), "rejected": _round(rejected.mean(), 1)},
        "longer_chosen": _round((chosen > rejected).mean() + (chosen == rejected).mean() / 2, 3),
    }


_QUARTILES = ("min", "quarter", "median", "three quarters", "max")
_AT = (0, 25, 50, 75, 100)


def pair_rows(figures: dict[str, Any]) -> list[list[str]]:
    """The figures as (what, value) rows, the histogram as bars."""
    gap, words = figures["gap"], figures["words"]
    most = max(count for *_, count in figures["gap_histogram"])
    rows = [
        ["pairs", f"{figures['pairs']} of {figures['prompts']} queries"],
        ["gap: mean", f"{gap['mean']:.3f}"],
        ["gap: quartiles", " · ".join(f"{gap[name]:.3f}" for name in _QUARTILES)],
        ["words, chosen / rejected", f"{words['chosen']:.1f} / {words['rejected']:.1f}"],
        ["chosen is the longer", f"{figures['longer_chosen']:.0%}"],
    ]
    bars = [
        [f"gap {low:.2f} … {high:.2f}", f"{'▇' * round(24 * count / most):<24} {count:>4}"]
        for low, high, count in figures["gap_histogram"]
    ]
    return rows + bars


def _round(value: float, digits: int = 4) -> float:
    return round(float(value), digits)
