"""Attention over the slots on a CPU: all replies to a prompt read it together, as one product.

PyTorch's own attention would go through a prompt's keys once for each reply that reads them.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

Stored = tuple[Tensor, Tensor]
"""Keys and values, each (prompts or replies, heads, tokens, size)."""


@dataclass(frozen=True)
class Readers:
    """The replies that read their next token in a step, and the prompts that they look back to.

    Attributes:
        rows: (readers,) the slot of each reply.
        new: (readers,) where in its slot the new token goes.
        prompts: (prompts,) the places of the prompts that any of them answers.
        seats: (readers,) where each lies among prompts * most: those to one prompt side by side.
        most: the largest number of replies to one prompt.
        read: how many tokens of the prompts are looked at, and `said` how many of the replies.
        hidden: (readers, 1, read + said), added to scores: 0, or -inf where a token is not there.
    """

    rows: Tensor
    new: Tensor
    prompts: Tensor
    seats: Tensor
    most: int
    read: int
    said: int
    hidden: Tensor


def readers(rows: Tensor, prompt: Tensor, starts: Tensor, written: Tensor) -> Readers:
    """Seats the replies of `rows` by their prompts.

    `prompt` says which one each answers, `starts` how many of its tokens count, `written` how many
    tokens of the reply are stored; all are (readers,).
    """
    prompts, table, sizes = prompt.unique(return_inverse=True, return_counts=True)
    order = table.argsort(stable=True)
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order)) - (sizes.cumsum(0) - sizes)[table[order]]
    most, read, said = int(sizes.max()), int(starts.max()), int(written.max()) + 1
    there = [torch.arange(read) < starts[:, None], torch.arange(said) <= written[:, None]]
    hidden = torch.zeros(len(rows), 1, read + said)
    hidden.masked_fill_(torch.cat(there, 1).logical_not()[:, None], -torch.inf)
    seats = table * most + place
    return Readers(rows, written.long(), prompts.long(), seats, most, read, said, hidden)


def attend(
    query: Tensor, new: Stored, prompt: Stored, reply: Stored, group: Readers, scale: float
) -> Tensor:
    """Stores each reader's new key and value, and attends; all are (readers, heads, size)."""
    for store, one in zip(reply, new, strict=True):
        store[group.rows, :, group.new] = one
    far_keys, far_values = (store[group.prompts, :, : group.read] for store in prompt)
    own_keys, own_values = (store[group.rows, :, : group.said] for store in reply)
    shared = (len(query), far_keys.shape[1], -1, query.shape[-1])
    query = query.view(shared)
    far = _apart(_together(query, group) @ far_keys.mT, group)
    score = torch.cat([far, query @ own_keys.mT], -1).flatten(1, 2)
    weight = torch.softmax(score.float().mul_(scale).add_(group.hidden), -1).to(query.dtype)
    of_prompt, of_reply = weight.unflatten(1, shared[1:3]).split((group.read, group.said), -1)
    found = of_reply @ own_values
    found += _apart(_together(of_prompt, group) @ far_values, group)
    return found.flatten(1, 2)


def _together(each: Tensor, group: Readers) -> Tensor:
    """(readers, groups, heads, size) to (prompts, groups, most * heads, size), empty seats 0."""
    seated = each.new_zeros(len(group.prompts) * group.most, *each.shape[1:])
    seated[group.seats] = each
    return seated.unflatten(0, (-1, group.most)).transpose(1, 2).flatten(2, 3)


def _apart(together: Tensor, group: Readers) -> Tensor:
    """The way back."""
    return together.unflatten(2, (group.most, -1)).transpose(1, 2).flatten(0, 1)[group.seats]
