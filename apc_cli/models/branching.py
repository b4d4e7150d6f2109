"""Many continuations of one prefix in one pass through a decoder.

A reply is read once, and every persona statement branches off it:

    prefix ─┬─ branch 0
            ├─ branch 1
            └─ branch 2

All branches lie in one row of tokens; positions restart after the prefix, and the attention mask
lets a branch see the prefix and itself but not its sisters. Each branch's last hidden state is
therefore what it would be if prefix + branch were read alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

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
    """

    input_ids: Tensor
    position_ids: Tensor
    allowed: Tensor
    ends: list[list[int]]


def pack(groups: Sequence[TokenGroup], pad_id: int, device: torch.device) -> BranchedBatch:
    """Lays groups out as one padded batch."""
    rows = [_lay_out(prefix, branches) for prefix, branches in groups]
    width = max(len(ids) for ids, *_ in rows)
    input_ids = torch.full((len(rows), width), pad_id)
    position_ids = torch.zeros((len(rows), width), dtype=torch.long)
    branch_ids = torch.full((len(rows), width), -1)
    for row, (ids, positions, owners, _) in enumerate(rows):
        input_ids[row, : len(ids)] = torch.tensor(ids)
        position_ids[row, : len(ids)] = torch.tensor(positions)
        branch_ids[row, : len(ids)] = torch.tensor(owners)
    allowed = _visibility(branch_ids.to(device))
    return BranchedBatch(
        input_ids.to(device), position_ids.to(device), allowed, [r[3] for r in rows]
    )


def _lay_out(
    prefix: list[int], branches: list[list[int]]
) -> tuple[list[int], list[int], list[int], list[int]]:
    """Token ids, positions, owner (0 = prefix, i + 1 = branch i) and the end of each branch."""
    ids, positions, owners, ends = list(prefix), list(range(len(prefix))), [0] * len(prefix), []
    for number, branch in enumerate(branches, start=1):
        ids += branch
        positions += range(len(prefix), len(prefix) + len(branch))
        owners += [number] * len(branch)
        ends.append(len(ids) - 1)
    return ids, positions, owners, ends


def _visibility(owners: Tensor) -> Tensor:
    """(rows, 1, tokens, tokens): earlier tokens of the prefix and of one's own branch."""
    width, options = owners.shape[1], {"dtype": torch.bool, "device": owners.device}
    earlier = torch.ones(width, width, **options).tril()
    same_branch = owners[:, :, None] == owners[:, None, :]
    from_prefix = (owners == 0)[:, None, :]
    visible = earlier & (same_branch | from_prefix)
    return visible[:, None] | torch.eye(width, **options)
