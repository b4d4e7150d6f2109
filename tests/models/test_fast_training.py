"""What trains fast on a GPU gives trl's losses and gradients: layout and arithmetic, on a CPU."""

import contextlib

import pytest
import torch
from models.test_lean_training import SMALL, outcome, trainer
from transformers import GemmaConfig, LlamaConfig, Qwen3Config

from apc_cli.models import lean_training, packed_pairs
from apc_cli.models.fused_lora import fused_lora
from apc_cli.models.lean_training import lean

CONFIGS = {
    "heads of their own": LlamaConfig(**SMALL),
    "shared keys and values": Qwen3Config(**SMALL, num_key_value_heads=2, head_dim=8),
    "scaled embeddings": GemmaConfig(**SMALL, num_key_value_heads=4, head_dim=16),
}


@pytest.fixture
def packed(monkeypatch):
    monkeypatch.setattr(packed_pairs, "fits", lambda model: True)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_packed_pairs_have_the_figures_and_gradients_of_plain_passes(config, packed):
    made = trainer(config)
    plain, expected = outcome(made, contextlib.nullcontext())
    assert lean_training._pair_reader(made.model.get_base_model()) is lean_training._packed
    found, gradient = outcome(made, lean(made.model, pairs=True))
    known = plain.label_mask
    torch.testing.assert_close(found.log_probs[known], plain.log_probs[known], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(gradient, expected, atol=1e-4, rtol=1e-4)
    assert made.model.config._attn_implementation == "sdpa"


def test_packed_pairs_are_read_without_padding(packed):
    made = trainer(LlamaConfig(**SMALL))
    shapes = []
    layer = made.model.get_base_model().base_model.layers[0]
    layer.register_forward_pre_hook(lambda _, args: shapes.append(tuple(args[0].shape[:2])))
    outcome(made, lean(made.model, pairs=True))
    assert shapes[-1] == (1, 4 + 4 + 3 + 2 + 1 + 2 + 4)


@pytest.mark.parametrize("fused", [False, True], ids=["plain AdamW", "fused AdamW"])
def test_weights_that_an_optimiser_changed_are_seen(fused):
    """A fused optimiser does not count up the versions of what it changes."""
    results = []
    for context in (fused_lora, contextlib.nullcontext):
        made = trainer(LlamaConfig(**SMALL))
        weights = [p for p in made.model.parameters() if p.requires_grad]
        optimiser = torch.optim.AdamW(weights, lr=0.01, fused=fused)
        with context(made.model):
            for _ in range(3):
                outcome(made, contextlib.nullcontext())
                optimiser.step()
            results.append(outcome(made, contextlib.nullcontext())[0].log_probs.detach())
    torch.testing.assert_close(*results, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("checkpointed", [False, True])
def test_fused_lora_has_the_gradients_of_peft(checkpointed, packed):
    made = trainer(LlamaConfig(**SMALL))
    plain, expected = outcome(made, contextlib.nullcontext())
    if checkpointed:
        made.model.gradient_checkpointing_enable({"use_reentrant": False})
    with fused_lora(made.model) as layers:
        assert layers == 14
        found, gradient = outcome(made, lean(made.model, pairs=True))
    torch.testing.assert_close(found.log_probs, plain.log_probs, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(gradient, expected, atol=1e-4, rtol=1e-4)
