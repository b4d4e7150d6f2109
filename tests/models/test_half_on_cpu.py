"""The CPU's own attention and linear layers must compute what PyTorch's do."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from apc_cli.models import cpu_attention
from apc_cli.models.devices import native_formats
from apc_cli.models.prepacked import PrepackedLinear, prepack

needs_bf16 = pytest.mark.skipif(
    not native_formats(torch.device("cpu")), reason="this CPU does not multiply bfloat16"
)


@pytest.mark.parametrize("at_once", [1, 400_000])
def test_attention_is_that_of_pytorch(monkeypatch, at_once):
    monkeypatch.setattr(cpu_attention, "_AT_ONCE", at_once)
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 3, 6, 9, 8)
    found = cpu_attention.attend(query, key, value)
    torch.testing.assert_close(found, F.scaled_dot_product_attention(query, key, value))


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
