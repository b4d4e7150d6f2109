"""Discriminators: training, saving, loading, and checkpoints that must be refused."""

import json
import shutil

import numpy as np
import pytest
import torch

from apc_cli.errors import ApcError, ConfigError, DataError
from apc_cli.models.judging.discriminator import Discriminator
from apc_cli.models.judging.discriminator_training import (
    FitSettings,
    LabelledPrompt,
    best_temperature,
    fit,
    predict,
)
from apc_cli.prompts import Prompt
from apc_cli.records import NLI_LABELS, RELEVANCE_LABELS
from apc_cli.reports.agreement import agreement


def learnable(labels):
    """Rows whose label is told by one word of the branch."""
    words = ("Lund", "guitar", "water")[: len(labels)]
    eye = np.eye(len(labels), dtype=np.float32)
    return [
        LabelledPrompt(
            Prompt(f"Query number {i}?\n", tuple(f"It is about {word}." for word in words)), eye
        )
        for i in range(24)
    ]


@pytest.mark.parametrize(
    ("architecture", "base", "style", "labels"),
    [
        ("decoder", "chat", "statement-last", NLI_LABELS),
        ("classifier", "encoder", "released", NLI_LABELS),
        ("decoder", "chat", "statement-last", RELEVANCE_LABELS),
    ],
)
def test_learns_saves_and_loads(models, tmp_path, architecture, base, style, labels):
    judge = Discriminator.create(
        str(models / base), labels=labels, architecture=architecture, style=style, device="cpu"
    )
    examples = learnable(labels)
    fit(judge, examples, FitSettings(epochs=12, learning_rate=1e-2, batch_size=8))
    assert agreement(*predict(judge, examples)).accuracy > 0.95
    judge.calibrated(1.7).save(tmp_path / "judge")
    again = Discriminator.load(
        str(tmp_path / "judge"), labels=labels, device="cpu", dtype="float32"
    )
    prompts = [example.prompt for example in examples]
    for found, expected in zip(
        again.prompt_probabilities(prompts),
        judge.calibrated(1.7).prompt_probabilities(prompts),
        strict=True,
    ):
        np.testing.assert_allclose(found, expected, atol=1e-4)
    assert again.style == style


def test_same_seed_same_weights(models):
    def train():
        judge = Discriminator.create(
            str(models / "chat"),
            labels=NLI_LABELS,
            architecture="decoder",
            style="statement-last",
            device="cpu",
        )
        fit(judge, learnable(NLI_LABELS), FitSettings(learning_rate=1e-3, seed=3))
        return judge.probabilities(["Query number 1?\nIt is about Lund."])

    np.testing.assert_array_equal(train(), train())


def fresh_classifier(models, labels):
    return Discriminator.create(
        str(models / "encoder"),
        labels=labels,
        architecture="classifier",
        style="released",
        device="cpu",
    )


def test_diverging_training_is_an_error(models):
    judge = fresh_classifier(models, NLI_LABELS)
    with torch.no_grad():
        judge.network.parameters()[0].fill_(float("nan"))
    with pytest.raises(ApcError, match="diverged"):
        fit(judge, learnable(NLI_LABELS), FitSettings(batch_size=4))


def test_gradients_that_are_no_numbers_are_an_error_even_in_the_last_step(models):
    judge = fresh_classifier(models, NLI_LABELS)
    judge.network.parameters()[0].register_hook(lambda gradient: gradient * float("nan"))
    examples = learnable(NLI_LABELS)[:4]
    with pytest.raises(ApcError, match=r"diverged at step 1: the loss is \d.*its gradient nan"):
        fit(judge, examples, FitSettings(batch_size=4))


def classifier(models, path, **changes):
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    config = BertConfig.from_pretrained(models / "encoder", **{"num_labels": 3} | changes)
    BertForSequenceClassification(config).save_pretrained(path)
    AutoTokenizer.from_pretrained(models / "encoder").save_pretrained(path)
    return str(path)


def test_plain_classifier_loads_and_its_rows_sum_to_one(models, tmp_path):
    judge = Discriminator.load(
        classifier(models, tmp_path / "plain"), labels=NLI_LABELS, device="cpu"
    )
    found = judge.probabilities(["one text", "another, longer text", "x"])
    assert found.shape == (3, 3) and found.dtype == np.float32
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)
    assert judge.probabilities([]).shape == (0, 3)


def test_refuses_swapped_labels(models, tmp_path):
    swapped = {0: "entailed", 1: "neutral", 2: "contradicted"}
    path = classifier(models, tmp_path / "swapped", id2label=swapped)
    with pytest.raises(DataError, match="another order"):
        Discriminator.load(path, labels=NLI_LABELS, device="cpu")


def test_refuses_wrong_number_of_labels(models, tmp_path):
    path = classifier(models, tmp_path / "two", num_labels=2)
    with pytest.raises(DataError, match="2 labels"):
        Discriminator.load(path, labels=NLI_LABELS, device="cpu")


def test_refuses_a_model_without_a_head(models, tmp_path):
    path = tmp_path / "headless"
    shutil.copytree(models / "encoder", path)
    config = json.loads((path / "config.json").read_text())
    config["id2label"] = {"0": "contradicted", "1": "neutral", "2": "entailed"}
    (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(DataError, match="not a trained classifier"):
        Discriminator.load(str(path), labels=NLI_LABELS, device="cpu")


def test_never_unpickles(models, tmp_path):
    path = tmp_path / "pickle"
    classifier(models, path)
    (path / "model.safetensors").unlink()
    canary = tmp_path / "canary"

    class Evil:
        def __reduce__(self):
            return (open, (str(canary), "w"))

    torch.save({"x": Evil()}, path / "pytorch_model.bin")
    with pytest.raises(ApcError):
        Discriminator.load(str(path), labels=NLI_LABELS, device="cpu")
    assert not canary.exists()


def test_refuses_an_adapter_for_another_base(models, tmp_path):
    path = tmp_path / "adapter"
    shutil.copytree(models / "reward/nli", path)
    from safetensors.torch import load_file, save_file

    weights = load_file(path / "adapter_model.safetensors")
    renamed = {name.replace("q_proj", "z_proj"): tensor for name, tensor in weights.items()}
    save_file(renamed, path / "adapter_model.safetensors")
    with pytest.raises(DataError, match="does not fit its base model"):
        Discriminator.load(str(path), labels=NLI_LABELS, device="cpu")


def test_a_base_that_is_no_model_is_one_line(models, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="cannot load the base model .*: Unrecognized model"):
        Discriminator.create(
            str(tmp_path), labels=NLI_LABELS, architecture="classifier", style="released"
        )


def test_a_hub_that_is_out_of_reach_is_told_with_what_needs_none(models, tmp_path):
    with pytest.raises(ConfigError, match="cannot load the discriminator no/one") as caught:
        Discriminator.load("no/one", labels=NLI_LABELS, device="cpu")
    assert "--profile offline" in caught.value.hint


def test_missing_directory_and_unknown_package():
    for name in ("./nowhere", "package:nothing", "judge:reward/colour"):
        with pytest.raises(ConfigError):
            Discriminator.load(name, labels=NLI_LABELS, device="cpu")


def test_temperature_softens_overconfidence():
    targets = np.eye(2)[[0, 0, 0, 1]]
    probabilities = np.tile([0.99, 0.01], (4, 1))  # three in four are right
    temperature = best_temperature(targets, probabilities)
    logits = np.log(probabilities[0]) / temperature
    softened = np.exp(logits) / np.exp(logits).sum()
    assert softened[0] == pytest.approx(0.75, abs=0.01)


def test_branches_count_by_their_weight(models):
    """A branch of no weight teaches nothing, whatever its target says."""
    eye, words = np.eye(2, dtype=np.float32), ("water", "guitar")
    examples = [
        LabelledPrompt(
            Prompt(f"Query number {i}?\n", (f"It is about {words[i % 2]}.",) * 2),
            eye[[i % 2, 1 - i % 2]],
            np.array([1.0, 0.0]),
        )
        for i in range(24)
    ]
    judge = fresh_classifier(models, RELEVANCE_LABELS)
    fit(judge, examples, FitSettings(epochs=12, learning_rate=1e-2, batch_size=8))
    found = judge.prompt_probabilities([example.prompt for example in examples])
    assert [int(p[0].argmax()) for p in found] == [i % 2 for i in range(24)]
