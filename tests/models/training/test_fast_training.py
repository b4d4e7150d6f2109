"""What trains fast on a GPU gives trl's losses and gradients: layout and arithmetic, on a CPU."""

import contextlib
from types import SimpleNamespace

import pytest
import torch
from models.training.test_lean_training import SMALL, outcome, trainer
from transformers import AutoModelForCausalLM, GemmaConfig, LlamaConfig, Qwen3Config
from trl.trainer.utils import add_fused_lm_head

from apc_cli.models.adapters import add_lora
from apc_cli.models.training import lean_training, packed_pairs
from apc_cli.models.training.fused_layers import fused_layers
from apc_cli.models.training.fused_lora import fused_lora
from apc_cli.models.training.lean_training import lean

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


def test_fused_lora_over_four_bits_has_the_gradients_of_peft(packed):
    bnb = pytest.importorskip("bitsandbytes")
    made = []
    for context in (contextlib.nullcontext, fused_lora):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(LlamaConfig(**SMALL, dtype=torch.bfloat16))
        for block in model.base_model.layers:
            for parent in block.modules():
                for name, child in list(parent.named_children()):
                    if type(child) is torch.nn.Linear:
                        setattr(parent, name, four_bit(bnb, child))
        model.is_loaded_in_4bit = True
        adapted = add_lora(model, rank=2, alpha=8, task="CAUSAL_LM").train()
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.1, generator=torch.Generator().manual_seed(1))
        add_fused_lm_head(adapted.get_base_model(), outputs=("log_probs",))
        with context(adapted) as layers, torch.autocast("cpu", torch.bfloat16):
            made.append(outcome(SimpleNamespace(model=adapted), contextlib.nullcontext()))
    assert layers == 14
    (plain, expected), (found, gradient) = made
    torch.testing.assert_close(found.log_probs, plain.log_probs, atol=0.02, rtol=0.02)
    assert (gradient - expected).norm() < 0.05 * expected.norm()


def four_bit(bnb, layer):
    """The layer in nf4."""
    made = bnb.nn.Linear4bit(
        layer.in_features, layer.out_features, bias=False, quant_type="nf4",
        compute_dtype=torch.bfloat16, device="meta",
    )  # fmt: skip
    made.weight = bnb.nn.Params4bit(
        layer.weight.data, requires_grad=False, quant_type="nf4", compress_statistics=False
    ).to("cpu")
    return made


@pytest.mark.skipif(not torch.cuda.is_available(), reason="Triton kernels need a GPU")
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_kernels_are_as_near_to_float32_as_what_they_replace(config):
    made = trainer(config)
    for name, weight in made.model.named_parameters():
        if "lora_B" in name:
            weight.data *= 0.03  # with larger ones rounding alone decides much of the gradient
    _, exact = outcome(made, contextlib.nullcontext())
    base = made.model.get_base_model().to("cuda", torch.bfloat16)
    for weight in made.model.parameters():
        weight.data = weight.data.float() if weight.requires_grad else weight.data
    gaps = []
    for passes in (contextlib.nullcontext(), lean(made.model, pairs=True)):
        with torch.autocast("cuda", torch.bfloat16):
            _, gradient = outcome(made, passes, device="cuda")
        gaps.append(float((gradient.cpu() - exact).norm()))
    assert gaps[0] < 0.05 * exact.norm()
    assert gaps[1] < 1.5 * gaps[0]
    with fused_layers(base) as found:
        assert found >= 2 * 3 + 1 + 1, "norms, gated layers, rotation"
