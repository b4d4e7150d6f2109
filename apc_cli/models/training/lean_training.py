"""Training passes that compute only what the loss looks at.

trl runs prompt + chosen and prompt + rejected as two rows, and on a CPU it applies the output head
to the prompts too. Here the two replies of a pair branch off one prompt, and the output head sees
the replies alone. On a GPU pairs lie behind one another without padding, and the steps between
matrix products are fused. Losses and gradients are those of trl up to rounding.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers.modeling_outputs import BaseModelOutput

from apc_cli.models.branching import pack
from apc_cli.models.playing.sharding import is_sharded
from apc_cli.models.training import packed_pairs
from apc_cli.models.training.fused_layers import fused_layers
from apc_cli.models.training.fused_lora import fused_lora
from apc_cli.models.training.packed_pairs import Branches
from apc_cli.models.training.swapping import swapped

_TOLERANCE = 0.05
"""Relative difference allowed between two ways to the same hidden states; rounding stays below."""


PairReader = Callable[[Any, list[Branches], torch.device], tuple[Tensor, list[int]]]
"""From a backbone and pairs: hidden states (tokens, width), and where each pair begins in them."""


@contextmanager
def lean(model: Any, *, pairs: bool) -> Iterator["LeanPasses"]:
    """Makes the training passes of an adapted model with trl's fused head lean while it is open.

    With `pairs`, the first half of a batch's rows are chosen, the second half rejected replies.
    """
    base = model.get_base_model()
    with ExitStack() as stack:
        if base.device.type == "cuda" and base.dtype in (torch.bfloat16, torch.float16):
            if not is_sharded(base):  # kernels are found by trying layers, which are not whole
                stack.enter_context(fused_layers(base))
            stack.enter_context(fused_lora(base))
        passes = LeanPasses(base, _pair_reader(base) if pairs else None)
        stack.enter_context(_attention(base, passes.read_pairs))
        stack.enter_context(swapped(base, "forward", passes.of_model))
        stack.enter_context(swapped(base.base_model, "forward", passes.of_backbone))
        yield passes


class LeanPasses:
    """Stands in for the forward passes of a model that has trl's fused head, and its backbone's."""

    def __init__(self, model: Any, read_pairs: PairReader | None) -> None:
        self.backbone = model.base_model
        self.plain_model, self.plain_backbone = model.forward, model.base_model.forward
        self.read_pairs = read_pairs
        self.kept: Tensor | None = None

    def of_pair(self, pair: Branches, device: torch.device) -> Tensor:
        """Hidden states of one pair as training reads it."""
        if self.read_pairs:
            return self.read_pairs(self.backbone, [pair], device)[0]
        rows = [pair.prefix + branch for branch in (pair.one, pair.other) if branch]
        tokens = pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
        return self.backbone(input_ids=tokens.to(device), use_cache=False).last_hidden_state

    def of_model(self, *args: Any, labels: Tensor | None = None, **options: Any) -> Any:
        """As the fused head's forward: per-token figures of shape (rows, tokens - 1)."""
        if labels is None or not options.get("fused_lm_head"):
            return self.plain_model(*args, labels=labels, **options)
        targets = labels[:, 1:]
        self.kept = kept = targets >= 0
        try:
            outputs = self.plain_model(*args, shift_labels=targets[kept][None], **options)
        finally:
            self.kept = None
        for name, value in list(outputs.items()):
            if isinstance(value, Tensor) and value.ndim == 2:
                outputs[name] = value.new_zeros(kept.shape).masked_scatter(kept, value)
        return outputs

    def of_backbone(self, *args: Any, **options: Any) -> Any:
        """(1, labelled tokens, width): the hidden states that predict the labelled tokens."""
        if self.kept is None:
            return self.plain_backbone(*args, **options)
        ids, mask = options.get("input_ids"), options.get("attention_mask")
        if self.read_pairs and ids is not None and mask is not None:
            pairs = _branches(ids, mask)
            states, starts = self.read_pairs(self.plain_backbone, pairs, ids.device)
            places = _places(pairs, starts, ids.shape[1]).to(ids.device)
            return BaseModelOutput(states[places[:, :-1][self.kept]][None])
        outputs = self.plain_backbone(*args, **options)
        outputs.last_hidden_state = outputs.last_hidden_state[:, :-1][self.kept][None]
        return outputs


def _branches(ids: Tensor, mask: Tensor) -> list[Branches]:
    """The pairs of a batch whose rows are all chosen, then all rejected, padded right."""
    lengths = mask.sum(1).tolist()
    rows = [row[:length] for row, length in zip(ids.tolist(), lengths, strict=True)]
    half = len(rows) // 2
    found = []
    for one, other in zip(rows[:half], rows[half:], strict=True):
        shared = _shared_tokens(one, other)
        found.append(Branches(one[:shared], one[shared:], other[shared:]))
    return found


def _shared_tokens(one: list[int], other: list[int]) -> int:
    """How many tokens both begin with, short of either's last one."""
    most = min(len(one), len(other)) - 1
    return next((i for i in range(most) if one[i] != other[i]), most)


def _packed(backbone: Any, pairs: list[Branches], device: torch.device) -> tuple[Tensor, list[int]]:
    """All pairs in one row."""
    packed = packed_pairs.pack(pairs, device)
    states = backbone(
        input_ids=packed.input_ids[None],
        position_ids=packed.positions[None],
        use_cache=False,
        pairs=packed,
    ).last_hidden_state
    return states[0], [0, *accumulate(pair.size for pair in pairs[:-1])]


def _masked(backbone: Any, pairs: list[Branches], device: torch.device) -> tuple[Tensor, list[int]]:
    """A row for each pair."""
    batch = pack([(pair.prefix, [pair.one, pair.other]) for pair in pairs], 0, device)
    states = backbone(
        input_ids=batch.input_ids,
        attention_mask=batch.allowed,
        position_ids=batch.position_ids,
        use_cache=False,
    ).last_hidden_state
    rows, width, _ = states.shape
    return states.flatten(0, 1), [row * width for row in range(rows)]


def _places(pairs: list[Branches], starts: list[int], width: int) -> Tensor:
    """(2 * pairs, width) where the tokens of a batch's rows lie; padding: where the pair begins."""
    places = torch.tensor(starts).repeat(2)[:, None].repeat(1, width)
    for row, (pair, start) in enumerate(zip(pairs, starts, strict=True)):
        shared, first = len(pair.prefix), len(pair.prefix) + len(pair.one)
        second = range(start + first, start + first + len(pair.other))
        places[row, :first] = torch.arange(start, start + first)
        places[len(pairs) + row, : shared + len(second)] = torch.tensor(
            [*range(start, start + shared), *second]
        )
    return places


@torch.no_grad()
def _pair_reader(model: Any) -> PairReader | None:
    """The fastest way to read branches of a prefix in which the backbone reads them rightly."""
    config = model.config.get_text_config()
    kinds = getattr(config, "layer_types", None) or []
    if config._attn_implementation != "sdpa" or any(kind != "full_attention" for kind in kinds):
        return None
    if (not kinds and getattr(config, "sliding_window", None)) or _routes(config):
        return None
    ids = torch.arange(2, 26, device=model.device).repeat(2, 1) % config.vocab_size
    ids[1, 16:] = ids[0, 16:].flip(0)
    mask = torch.ones_like(ids)
    apart = model.base_model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    readers = (_packed, _masked) if packed_pairs.fits(model) else (_masked,)
    return next((r for r in readers if _reads_alike(model, r, ids, mask, apart)), None)


def _reads_alike(model: Any, reader: PairReader, ids: Tensor, mask: Tensor, apart: Tensor) -> bool:
    pairs = _branches(ids, mask)
    try:
        with _attention(model, reader):
            states, starts = reader(model.base_model, pairs, ids.device)
    except (TypeError, ValueError, RuntimeError):  # no position_ids, or no attention of our own
        return False
    together = states[_places(pairs, starts, ids.shape[1]).to(ids.device)]
    apart, together = apart[1, 16:], together[1, 16:]  # the second branch: all may go wrong there
    return bool((apart - together).norm() < _TOLERANCE * apart.norm())


def _attention(model: Any, reader: PairReader | None) -> AbstractContextManager[None]:
    """The attention that the reader needs."""
    return packed_pairs.attending(model) if reader is _packed else nullcontext()


def _routes(config: Any) -> bool:
    """Whether it is a mixture of experts, whose loss needs more than hidden states."""
    return hasattr(config, "output_router_logits")
