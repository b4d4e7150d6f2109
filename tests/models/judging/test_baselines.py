"""What can be had without a judge, and from whose rows it is learnt."""

import numpy as np
import pytest

from apc_cli.models.judging.baselines import (
    Known,
    Pair,
    cross_validated,
    cross_validated_guesses,
    guesses,
    word_overlap,
)


def test_word_overlap_worked_by_hand():
    # without the name: "is a baker" → "a" and "baker" are there, "is" is not
    pairs = [Pair("Mara", "Mara is a baker.", "A baker? Me, Mara?"), Pair("M", "M.", "x")]
    assert word_overlap(pairs).tolist() == [[pytest.approx(2 / 3)], [0.0]]


def test_baselines_never_see_the_character_they_judge():
    """One character's labels are turned round: a model that saw them would be right there."""
    features = np.tile([[0.0], [1.0]], (20, 1))
    labels = np.tile([0, 1], 20)
    groups = np.repeat(["a", "b", "c", "d"], 10)
    labels[groups == "d"] = 1 - labels[groups == "d"]
    given = cross_validated(features, labels, groups.tolist(), 2).argmax(1)
    assert (given == labels)[groups == "a"].all()
    assert not (given == labels)[groups == "d"].any()
    alone = cross_validated(features[:4], labels[:4], ["a"] * 4, 3)
    assert alone.tolist() == [[0.5, 0.5, 0.0]] * 4


def test_cosines_of_a_small_range_are_enough_to_tell_labels_apart():
    """Unscaled, the penalty of the regression would leave nothing but the more frequent label."""
    features = np.concatenate([np.linspace(0.10, 0.14, 30), np.linspace(0.16, 0.20, 20)])[:, None]
    labels = np.repeat([0, 1], [30, 20])
    groups = np.arange(50).astype(str).tolist()
    given = cross_validated(features, labels, groups, 2).argmax(1)
    assert (given == labels).mean() > 0.9


def test_word_overlap_is_learnt_from_other_rows():
    known = [Pair("Mara", f"Mara bakes {what}.", what) for what in ("bread", "cakes", "pies")]
    known += [Pair("Mara", "Mara bakes bread.", what) for what in ("no", "well", "perhaps")]
    asked = [Pair("Ole", "Ole sails boats.", "He sails boats."), Pair("Ole", "Ole sails.", "Hm.")]
    labels = np.repeat([1, 0], 3)
    found = guesses(Known(known, labels), asked, 2, None)
    assert list(found) == ["word overlap"] and found["word overlap"].argmax(1).tolist() == [1, 0]
    alike = guesses(Known(known[:3], labels[:3]), asked, 2, None)["word overlap"]
    assert alike.tolist() == [[0, 1], [0, 1]], "one label alone is all that can be guessed"
    groups = ["a", "b", "c"] * 2
    crossed = cross_validated_guesses(Known(known, labels), groups, 2, None)
    assert crossed["word overlap"].argmax(1).tolist() == labels.tolist()
