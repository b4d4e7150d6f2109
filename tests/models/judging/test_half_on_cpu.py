"""The CPU's own attention and linear layers must compute what PyTorch's do."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from apc_cli.models.devices import native_formats
from apc_cli.models.judging import cpu_attention, lean_llama
from apc_cli.models.judging.discriminator import Discriminator
from apc_cli.models.judging.prepacked import PrepackedLinear, prepack
from apc_cli.prompts import Prompt
from apc_cli.records import NLI_LABELS

needs_bf16 = pytest.mark.skipif(
    not native_formats(torch.device("cpu")), reason="this CPU does not multiply bfloat16"
)


@pytest.mark.parametrize("at_once", [1, 400_000])
def test_attention_with_groups_and_a_mask(monkeypatch, at_once):
    monkeypatch.setattr(cpu_attention, "_AT_ONCE", at_once)
    torch.manual_seed(0)
    query = torch.randn(3, 6, 9, 8)
    key, value = torch.randn(2, 3, 2, 9, 8)
    allowed = torch.rand(3, 1, 9, 9) < 0.5
    allowed |= torch.eye(9, dtype=torch.bool)
    mask = torch.zeros(allowed.shape).masked_fill(~allowed, -torch.inf)
    found = cpu_attention.attend(query, key, value, mask)
    expected = F.scaled_dot_product_attention(query, key, value, allowed, enable_gqa=True)
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, cpu_attention.attend(query, key, value), atol=0.01)
    found = cpu_attention.attend(query, key, value, mask, 0.5)
    expected = F.scaled_dot_product_attention(
        query, key, value, allowed, scale=0.5, enable_gqa=True
    )
    torch.testing.assert_close(found, expected)


@needs_bf16
def test_a_decoder_judges_in_bfloat16_as_in_float32(models, monkeypatch):
    monkeypatch.setattr(lean_llama, "can_read", lambda config: False)  # any other kind of decoder
    where, prefix = str(models / "evaluator/nli"), "Somebody asks Mara: hi\nMara answers: no.\n"
    prompts = [Prompt(prefix, tuple(f"Fact: Mara {x}.\nVerdict:" for x in ("bakes", "is", "ran")))]
    exact, found = (
        Discriminator.load(where, labels=NLI_LABELS, device="cpu", dtype=dtype)
        for dtype in ("float32", "bfloat16")
    )
    assert found.network.model.config._attn_implementation == cpu_attention._NAME
    [[expected], [half]] = exact.prompt_probabilities(prompts), found.prompt_probabilities(prompts)
    np.testing.assert_allclose(half, expected, atol=0.03)
    assert np.ptp(expected, axis=0).max() > 1e-3, "else equality would mean nothing"


@needs_bf16
def test_prepacked_layers_are_the_plain_ones():
    torch.manual_seed(0)
    linear = nn.Linear(96, 40).bfloat16()
    for states in (torch.randn(1, 96), torch.randn(2, 70, 96)):
        found = PrepackedLinear(linear)(states.bfloat16())
        torch.testing.assert_close(found, linear(states.bfloat16()), atol=0.02, rtol=0.02)


class _Model(nn.Module):
    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(8, 8), nn.ReLU()).to(dtype)
        self.dtype, self.device = dtype, torch.device("cpu")


@needs_bf16
def test_only_half_precision_is_prepacked():
    assert type(prepack(_Model(torch.bfloat16)).inner[0]) is PrepackedLinear
    assert type(prepack(_Model(torch.float32)).inner[0]) is nn.Linear
