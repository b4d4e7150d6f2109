"""Many continuations of one prefix in one pass through a decoder.

A reply is read once, and every persona statement branches off it; statements that begin alike
("Fact: Mara ...") are one stem up to where they part:

    prefix ── stem ─┬─ branch 0
                    ├─ branch 1
                    └─ branch 2

All tokens lie in one row; a token's position is its depth in the tree, and the attention mask lets
it see its ancestors and itself. Each branch's last hidden state is therefore what it would be if
prefix + branch were read alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

TokenGroup = tuple[list[int], list[list[int]]]
"""The token ids of a prefix and of its branches."""


@dataclass(frozen=True)
class BranchedBatch:
    """Rows of one prefix with its branches, ready for a decoder.

    Attributes:
        input_ids: (rows, tokens) token ids, padded on the right.
        position_ids: (rows, tokens) position of each token within prefix + its branch.
        allowed: (rows, 1, tokens, tokens) True where a token may attend to another.
        ends: for each row, where each branch's last token lies.
        lengths: for each row, how many of its tokens are no padding.
    """

    input_ids: Tensor
    position_ids: Tensor
    allowed: Tensor
    ends: list[list[int]]
    lengths: list[int]


class _Tree(NamedTuple):
    """One row: for each token its id, its depth and the place of its parent (-1: none)."""

    ids: list[int]
    depths: list[int]
    parents: list[int]
    ends: list[int]


def pack(groups: Sequence[TokenGroup], pad_id: int, device: torch.device) -> BranchedBatch:
    """Lays groups out as one padded batch."""
    rows = [_tree(prefix, branches) for prefix, branches in groups]
    width = max(len(row.ids) for row in rows)
    input_ids = torch.full((len(rows), width), pad_id)
    position_ids = torch.zeros((len(rows), width), dtype=torch.long)
    allowed = torch.eye(width, dtype=torch.bool).repeat(len(rows), 1, 1, 1)
    for number, row in enumerate(rows):
        input_ids[number, : len(row.ids)] = torch.tensor(row.ids)
        position_ids[number, : len(row.ids)] = torch.tensor(row.depths)
        _see_ancestors(allowed[number, 0].numpy(), row.parents)
    return BranchedBatch(
        input_ids.to(device),
        position_ids.to(device),
        allowed.to(device),
        [row.ends for row in rows],
        [len(row.ids) for row in rows],
    )


def _tree(prefix: list[int], branches: list[list[int]]) -> _Tree:
    """The prefix, and each branch from where it is like none before it.

    The last token of a branch is always its own: a reply that is the start of another, as pairs to
    train on may have it, lies behind that one whole.
    """
    row = _Tree(list(prefix), list(range(len(prefix))), list(range(-1, len(prefix) - 1)), [])
    known: dict[tuple[int, int], int] = {}
    for branch in branches:
        place = len(prefix) - 1
        for depth, token in enumerate(branch, start=len(prefix)):
            parent, new = place, len(row.ids)
            last = depth == len(prefix) + len(branch) - 1
            place = new if last else known.setdefault((parent, token), new)
            if place == new:
                row.ids.append(token)
                row.depths.append(depth)
                row.parents.append(parent)
        row.ends.append(place)
    return row


def _see_ancestors(allowed: np.ndarray, parents: list[int]) -> None:
    """Adds to each token's row what its parent may see; parents come first."""
    for place, parent in enumerate(parents):
        if parent >= 0:
            allowed[place] |= allowed[parent]
