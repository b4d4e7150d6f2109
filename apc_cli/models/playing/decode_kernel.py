"""Attention of one new token a reply over its prompt and the reply so far, as one Triton kernel.

Replies to the same prompt read the same keys and values, which are stored once and mostly come from
the GPU's cache; nothing beyond a reply's own length is read.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

_TILE, _WARPS, _STAGES = 32, 4, 2


@triton.jit
def _fold(
    query, keys, values, length, scale, best, total, mixed,
    SIZE: tl.constexpr, WIDE: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Goes on with a softmax over the keys of one store."""
    places, dims = tl.arange(0, TILE), tl.arange(0, WIDE)
    for first in range(0, length, TILE):
        rows = first + places
        there = (rows < length)[:, None] & (dims < SIZE)[None, :]
        offsets = rows[:, None] * SIZE + dims[None, :]
        key = tl.load(keys + offsets, mask=there, other=0.0)
        value = tl.load(values + offsets, mask=there, other=0.0)
        score = tl.dot(query, tl.trans(key), input_precision="ieee")
        score = tl.where((rows < length)[None, :], score * scale, -float("inf"))
        highest = tl.maximum(best, tl.max(score, 1))
        weight = tl.exp2(score - highest[:, None])
        shrink = tl.exp2(best - highest)
        total = total * shrink + tl.sum(weight, 1)
        mixed = mixed * shrink[:, None]
        mixed += tl.dot(weight.to(value.dtype), value, input_precision="ieee")
        best = highest
    return best, total, mixed


@triton.jit
def _attend(
    queries, new_keys, new_values, prompt_keys, prompt_values, reply_keys, reply_values,
    prompts, starts, lengths, out, scale, most_prompt, most_reply,
    HEADS: tl.constexpr, GROUP: tl.constexpr, ROWS: tl.constexpr,
    SIZE: tl.constexpr, WIDE: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    reply, head = tl.program_id(0), tl.program_id(1)
    members, dims = tl.arange(0, ROWS), tl.arange(0, WIDE)
    there = (members < GROUP)[:, None] & (dims < SIZE)[None, :]
    own = ((reply * HEADS + head) * GROUP + members[:, None]) * SIZE + dims[None, :]
    query = tl.load(queries + own, mask=there, other=0.0)
    best = tl.full([ROWS], -1e30, tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    mixed = tl.zeros([ROWS, WIDE], tl.float32)
    place = (tl.load(prompts + reply).to(tl.int64) * HEADS + head) * most_prompt * SIZE
    best, total, mixed = _fold(
        query, prompt_keys + place, prompt_values + place, tl.load(starts + reply), scale,
        best, total, mixed, SIZE, WIDE, TILE,
    )  # fmt: skip
    place = (reply.to(tl.int64) * HEADS + head) * most_reply * SIZE
    last = tl.load(lengths + reply) - 1
    best, total, mixed = _fold(
        query, reply_keys + place, reply_values + place, last, scale,
        best, total, mixed, SIZE, WIDE, TILE,
    )  # fmt: skip
    if last >= 0:
        new = (reply * HEADS + head) * SIZE + dims
        key = tl.load(new_keys + new, mask=dims < SIZE, other=0.0)
        value = tl.load(new_values + new, mask=dims < SIZE, other=0.0)
        tl.store(reply_keys + place + last * SIZE + dims, key, mask=dims < SIZE)
        tl.store(reply_values + place + last * SIZE + dims, value, mask=dims < SIZE)
        score = tl.sum(query.to(tl.float32) * key.to(tl.float32)[None, :], 1) * scale
        highest = tl.maximum(best, score)
        weight, shrink = tl.exp2(score - highest), tl.exp2(best - highest)
        total = total * shrink + weight
        mixed = mixed * shrink[:, None] + weight[:, None] * value.to(tl.float32)[None, :]
    found = mixed / tl.maximum(total, 1e-30)[:, None]
    tl.store(out + own, found.to(query.dtype), mask=there)


def attend(
    query: Tensor,
    new: tuple[Tensor, Tensor],
    prompt: tuple[Tensor, Tensor],
    reply: tuple[Tensor, Tensor],
    prompts: Tensor,
    starts: Tensor,
    lengths: Tensor,
    scale: float,
    shape: tuple[int, int, int] = (_TILE, _WARPS, _STAGES),
) -> Tensor:
    """What each reply's new token takes from itself and what stands before it.

    Args:
        query: (replies, heads, size).
        new: its key and value, each (replies, key-value heads, size), which `reply` is given.
        prompt: keys and values, each (prompts, key-value heads, most, size).
        reply: keys and values, each (replies, key-value heads, most, size).
        prompts: int32 (replies,) which prompt a reply belongs to.
        starts: int32 (replies,) how many keys of the prompt count.
        lengths: int32 (replies,) how many of the reply count, the new one too; 0: none is written.
        scale: what scores are multiplied with.
        shape: keys read at once, warps and stages.

    Returns:
        (replies, heads, size).
    """
    replies, heads, size = query.shape
    kv_heads = reply[0].shape[1]
    group = heads // kv_heads
    tile, warps, stages = shape
    query, (key, value) = query.contiguous(), (one.contiguous() for one in new)
    out = torch.empty_like(query)
    _attend[(replies, kv_heads)](
        query, key, value, *prompt, *reply, prompts, starts, lengths, out,
        scale * 1.4426950408889634,  # the kernel takes powers of two
        prompt[0].shape[2], reply[0].shape[2],
        HEADS=kv_heads, GROUP=group, ROWS=max(16, triton.next_power_of_2(group)),
        SIZE=size, WIDE=max(16, triton.next_power_of_2(size)), TILE=tile,
        num_warps=warps, num_stages=stages,
    )  # fmt: skip
    return out
