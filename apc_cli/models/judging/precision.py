"""The number format of a classifier: the fastest one that agrees with float32 on fixed probes."""

import copy
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import torch

from apc_cli.models.devices import in_format, native_formats
from apc_cli.models.judging.networks import FlatClassifier
from apc_cli.models.judging.packed_deberta import PackedDeberta, can_read
from apc_cli.models.judging.packing import PackedBert, PackedClassifier
from apc_cli.models.judging.prepacked import prepack
from apc_cli.prompts import Prompt, nli_text, relevance_text

TOLERANCE = 0.03
"""The largest difference in any probability that a faster format may make."""

_ALIKE = ("bert", "roberta", "xlm-roberta")

_STATEMENTS = (
    "Mara is a baker in Lund.",
    "Mara owns two cats and has never been able to stand dogs, large or small.",
    "Mara does not speak Danish.",
)
_QUERIES = ("What do you do for a living?", "Tell me about the pets you had as a child, please.")
_REPLIES = (
    "I bake bread.",
    "Two cats, and a dog that I love more than both. We walk to the harbour every morning.",
    "I would rather not say. People in Lund ask a lot of questions these days, and I have bread to "
    "see to, a choir to sing in on Fridays, and forty years of stories that nobody paid for.",
)


def settled(model: Any, tokenizer: Any, dtype: str) -> FlatClassifier:
    """The float32 `model` behind its tokenizer, in the format that `dtype` names.

    `auto` tries the formats that the device multiplies natively, the finest first, and keeps
    float32 where none of them gives the probabilities of float32 within TOLERANCE.
    """
    if dtype != "auto":
        return _network(in_format(model, getattr(torch, dtype)), tokenizer)
    formats = native_formats(model.device)
    if not formats:
        return _network(model, tokenizer)
    exact = _opinions(FlatClassifier(model, tokenizer))
    for candidate in formats:
        network = _network(in_format(copy.deepcopy(model), candidate), tokenizer)
        if agrees(_opinions(network), exact):
            return network
    return _network(model, tokenizer)


def agrees(found: np.ndarray, exact: np.ndarray) -> bool:
    """Whether no probability is off by more than TOLERANCE; NaN never agrees."""
    return bool(np.abs(found - exact).max() <= TOLERANCE)


def _network(model: Any, tokenizer: Any) -> FlatClassifier:
    """Without padding in half precision, where the device has the kernels for it."""
    if model.dtype not in (torch.float16, torch.bfloat16):
        return FlatClassifier(model, tokenizer)
    kind, on_cpu = model.config.model_type, model.device.type == "cpu"
    packed = packed_classifier(model) if kind in _ALIKE or not on_cpu else None
    if kind in (*_ALIKE, "deberta-v2"):  # others may look into their layers
        prepack(model.base_model)
    return FlatClassifier(model, tokenizer, packed=packed)


def packed_classifier(model: Any) -> PackedClassifier | None:
    """A reader of packed texts with the model's weights, where its architecture has one.

    It may take the model over: its own forward is not to be used any more.
    """
    kind = model.config.model_type
    if kind == "deberta-v2" and can_read(model.config):
        return PackedDeberta(model)
    if kind in _ALIKE and not model.config.is_decoder:
        return PackedBert(model)
    return None


@torch.inference_mode()
def _opinions(network: FlatClassifier) -> np.ndarray:
    [(_, logits)] = network.run([Prompt("", _probes())], None)
    return torch.softmax(logits, dim=-1).numpy()


def _probes() -> Sequence[str]:
    asked = [relevance_text("Mara", s, q) for s, q in product(_STATEMENTS, _QUERIES)]
    said = [nli_text("Mara", s, q, r) for s, q, r in product(_STATEMENTS, _QUERIES, _REPLIES)]
    return (*asked, *said)
