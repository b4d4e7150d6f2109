"""What training of a character's own judges starts from."""

import numpy as np
import pytest
from quiet import Quiet

from apc_cli.models.judging.discriminator import Discriminator
from apc_cli.models.judging.discriminator_training import FitSettings, LabelledPrompt
from apc_cli.prompts import Prompt
from apc_cli.records import RELEVANCE_LABELS
from apc_cli.steps.train_discriminators import _fit_and_measure, _start

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


def test_a_judge_with_few_rows_to_calibrate_on_keeps_its_calibration(models):
    """Trained on by a single step, a shipped judge is as unsure afterwards as it was before."""
    start = Discriminator.load(
        str(models / "reward/relevance"), labels=RELEVANCE_LABELS, device="cpu", trainable=True
    ).calibrated(1.7, 0.6)
    prompts = [
        LabelledPrompt(Prompt(f"Query {i}\n", ("Mara bakes.",)), np.eye(2)[[i % 2]])
        for i in range(8)
    ]
    settings = FitSettings(epochs=1, learning_rate=1e-5, batch_size=8)
    trained, figures = _fit_and_measure(
        start, [prompts, prompts[:4], prompts, []], settings, "relevance", Quiet()
    )
    assert (trained.description.temperature, trained.description.sure_from) == (1.7, 0.6)
    assert figures["held out on others"] is None and figures["temperature"] == 1.7
    assert figures["held out"]["brier"] == pytest.approx(figures["before"]["brier"], abs=0.02)
