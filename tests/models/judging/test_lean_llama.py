"""The lean reader of Llamas must judge as transformers' own float32 forward does."""

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForSequenceClassification

from apc_cli.models.branching import pack
from apc_cli.models.devices import in_format, native_formats
from apc_cli.models.judging import lean_llama
from apc_cli.models.judging.discriminator import Discriminator
from apc_cli.models.judging.lean_llama import LeanLlama, can_read
from apc_cli.prompts import Prompt
from apc_cli.records import NLI_LABELS

needs_bf16 = pytest.mark.skipif(
    not native_formats(torch.device("cpu")), reason="this CPU does not multiply bfloat16"
)
SHAPE = {
    "vocab_size": 50,
    "hidden_size": 96,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "num_labels": 3,
    "initializer_range": 0.2,
}
GROUPS = [
    ([5, 6, 7], [[8, 9, 10], [8, 9, 11, 12], [13]]),
    ([20, 21, 22, 23, 24], [[25], [26, 27]]),
    ([], [[30, 31], [30, 32]]),
]


@pytest.fixture
def llama():
    """Every norm has weights of its own."""
    torch.manual_seed(0)
    model = LlamaForSequenceClassification(LlamaConfig(**SHAPE)).eval()
    for name, weight in model.named_parameters():
        if "norm" in name:
            weight.data.uniform_(0.5, 1.5)
    return model


def _alone(model):
    """Each branch behind its prefix, as the model reads it."""
    texts = [prefix + branch for prefix, branches in GROUPS for branch in branches]
    with torch.no_grad():
        return torch.cat([model(input_ids=torch.tensor([text])).logits for text in texts]).float()


@needs_bf16
@pytest.mark.parametrize("asking", [1, 3, 160])
def test_trees_are_judged_as_texts_read_alone(llama, monkeypatch, asking):
    monkeypatch.setattr(lean_llama, "_ASKING", asking)
    expected = _alone(llama)
    with torch.inference_mode():
        found = LeanLlama(llama).logits(pack(GROUPS, 0, torch.device("cpu")))
    assert found.shape == expected.shape == (7, 3) and found.dtype == torch.float32
    spread = (expected - expected.mean(0)).abs().mean()
    assert (found - expected).abs().max() < 0.06 * spread
    assert not llama.model.layers, "they are in memory once"


@needs_bf16
def test_it_is_nearer_to_float32_than_bfloat16_is(llama):
    expected = _alone(llama)
    plain = LlamaForSequenceClassification(LlamaConfig(**SHAPE)).eval()
    plain.load_state_dict(llama.state_dict())
    rounded = _alone(plain.bfloat16())
    with torch.inference_mode():
        found = LeanLlama(llama).logits(pack(GROUPS, 0, torch.device("cpu")))
    assert (found - expected).square().mean() < 0.7 * (rounded - expected).square().mean()


@needs_bf16
def test_rows_do_not_see_one_another(llama):
    lean = LeanLlama(llama)
    with torch.inference_mode():
        together = lean.logits(pack(GROUPS, 0, torch.device("cpu")))
        apart = [lean.logits(pack([group], 0, torch.device("cpu"))) for group in GROUPS]
    torch.testing.assert_close(together, torch.cat(apart), atol=0.02, rtol=0.02)


@pytest.mark.parametrize(
    "other",
    [{"attention_bias": True}, {"mlp_bias": True}, {"hidden_act": "gelu"}, {"model_type": "qwen2"}],
)
def test_only_plain_llamas_are_read(other):
    config = LlamaConfig(**SHAPE)
    assert can_read(config)
    for key, value in other.items():
        setattr(config, key, value)
    assert not can_read(config)


@needs_bf16
def test_a_judge_is_read_so_where_it_is_not_trained(models):
    where, prefix = str(models / "evaluator/nli"), "Somebody asks Mara: hi\nMara answers: no.\n"
    prompts = [
        Prompt(prefix, tuple(f"Fact: Mara {x}.\nVerdict:" for x in ("bakes", "is", "ran"))),
        Prompt("Short.\n", ("Fact: x.",)),
    ]
    exact, found = (
        Discriminator.load(where, labels=NLI_LABELS, device="cpu", dtype=dtype)
        for dtype in ("float32", "bfloat16")
    )
    assert not found.network.model.model.layers and exact.network.model.model.layers
    assert found.network.model.dtype == torch.bfloat16
    expected = np.concatenate(exact.prompt_probabilities(prompts))
    np.testing.assert_allclose(
        np.concatenate(found.prompt_probabilities(prompts)), expected, atol=0.015
    )
    assert np.ptp(expected, axis=0).max() > 1e-3, "else equality would mean nothing"
    trained = Discriminator.load(where, labels=NLI_LABELS, device="cpu", trainable=True)
    assert trained.network.model.get_base_model().model.layers


def test_rotary_frequencies_are_not_rounded(llama):
    exact = llama.model.rotary_emb.inv_freq.clone()
    in_format(llama, torch.bfloat16)
    assert llama.dtype == torch.bfloat16
    assert llama.model.rotary_emb.inv_freq.equal(exact)
    assert not exact.equal(exact.bfloat16().float()), "else rounding would not show"
