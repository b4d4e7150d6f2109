"""What training of a character's own judges starts from."""

import numpy as np
import pytest

from apc_cli.models.judging.discriminator import Discriminator
from apc_cli.records import RELEVANCE_LABELS
from apc_cli.steps.train_discriminators import _start

TEXTS = ["Mara is a baker.", "She owns two cats and fears dogs."]


@pytest.mark.parametrize("architecture", ["decoder", "classifier"])
def test_a_judge_in_a_directory_goes_on_learning(models, tmp_path, architecture):
    place = str(models / "reward/relevance")
    if architecture == "classifier":
        place = str(tmp_path / "judge")
        made = Discriminator.create(
            str(models / "encoder"), labels=RELEVANCE_LABELS, architecture="classifier",
            style="statement-last", device="cpu", seed=5,
        )  # fmt: skip
        made.calibrated(0.5).save(tmp_path / "judge")
    known = Discriminator.load(place, labels=RELEVANCE_LABELS, device="cpu", dtype="float32")
    start = _start(place, RELEVANCE_LABELS, "cpu", seed=0)
    assert start.description == known.description
    assert start.description.architecture == architecture
    assert any(weight.requires_grad for weight in start.network.model.parameters())
    found, expected = start.probabilities(TEXTS), known.probabilities(TEXTS)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_another_base_starts_as_a_fresh_classifier(models):
    start = _start(str(models / "encoder"), RELEVANCE_LABELS, "cpu", seed=0)
    assert start.description.architecture == "classifier" and start.style == "released"
