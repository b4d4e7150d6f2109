"""Branches read together must give what each text gives when it is read alone."""

import numpy as np
import pytest
import torch

from apc_cli.models.branching import pack
from apc_cli.models.judging.discriminator import Discriminator
from apc_cli.prompts import Prompt
from apc_cli.records import NLI_LABELS


def test_pack_worked_by_hand():
    batch = pack([([5, 6], [[7], [8, 9]])], pad_id=0, device=torch.device("cpu"))
    assert batch.input_ids.tolist() == [[5, 6, 7, 8, 9]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 2, 3]]
    assert batch.ends == [[2, 4]]
    assert batch.allowed[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 0, 1, 0],
        [1, 1, 0, 1, 1],
    ]


def test_branches_that_begin_alike_are_one_stem():
    batch = pack([([5], [[7, 8], [7, 9], [7]]), ([], [[1], [2]])], 0, torch.device("cpu"))
    assert batch.input_ids.tolist() == [[5, 7, 8, 9, 7], [1, 2, 0, 0, 0]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 2, 1], [0, 0, 0, 0, 0]]
    assert batch.ends == [[2, 3, 4], [0, 1]], "a last token is never shared"
    assert batch.lengths == [5, 2]
    assert batch.allowed[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 0, 1, 0],
        [1, 0, 0, 0, 1],
    ]
    assert batch.allowed[1, 0].equal(torch.eye(5, dtype=torch.bool)), "padding sees itself alone"


@pytest.fixture(scope="module")
def judge(models):
    return Discriminator.load(
        str(models / "reward/nli"), labels=NLI_LABELS, device="cpu", dtype="float32"
    )


def test_branches_equal_texts_read_alone(judge):
    prefix = "Somebody asks Mara: what do you do?\nMara answers: I bake bread.\n"
    branches = ("Fact: Mara bakes.\nVerdict:", "Fact: Mara owns two old cats.\nVerdict:", "No.")
    other = Prompt("Short.\n", ("Fact: x.",))
    [together, single] = judge.prompt_probabilities([Prompt(prefix, branches), other])
    alone = judge.probabilities([prefix + branch for branch in branches])
    assert together.shape == (3, 3) and single.shape == (1, 3)
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert np.ptp(together, axis=0).max() > 1e-3, "else equality would mean nothing"


def test_agrees_with_transformers_own_forward(judge):
    text = "Somebody asks Mara: hi\nMara answers: hello\nFact: Mara bakes.\nVerdict:"
    network = judge.network
    ids = network.tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
    with torch.no_grad():
        expected = torch.softmax(network.model(input_ids=ids).logits, -1).numpy()
    np.testing.assert_allclose(judge.probabilities([text]), expected, atol=1e-5)


def test_order_and_batch_size_do_not_matter(judge):
    prompts = [Prompt(f"Text number {i}. " * (i + 1), ("a b c", "d")) for i in range(7)]
    one_by_one = [judge.prompt_probabilities([prompt])[0] for prompt in prompts]
    for budget in (1, 60, 10_000):
        for found, expected in zip(
            judge.prompt_probabilities(prompts, budget), one_by_one, strict=True
        ):
            np.testing.assert_allclose(found, expected, atol=1e-5)
