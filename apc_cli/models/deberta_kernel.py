"""DeBERTa's disentangled attention over packed texts, as one Triton kernel.

A token's score for another is query · key, plus query · key of their distance, plus key · query of
their distance. For a tile of queries and keys only the distances that occur in it are multiplied,
on chip, and each score picks its own: nothing of (tokens × distances) is ever written to memory.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

_TILE, _WARPS, _STAGES = 32, 1, 2
"""The fastest of eleven shapes on an H100."""


@triton.jit
def _attend(
    qkv, keys, queries, slots, offsets, out, scale, reach,
    HEADS: tl.constexpr, WIDTH: tl.constexpr, SIZE: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    tile, text, head = tl.program_id(0), tl.program_id(1) // HEADS, tl.program_id(1) % HEADS
    start = tl.load(offsets + text).to(tl.int64)
    length = (tl.load(offsets + text + 1) - start).to(tl.int32)
    if tile * TILE >= length:
        return
    places, dims, near = tl.arange(0, TILE), tl.arange(0, SIZE), tl.arange(0, 2 * TILE)
    rows = tile * TILE + places
    inside = rows < length
    base = qkv + start * 3 * WIDTH + head * SIZE + dims[None, :]
    query = tl.load(base + rows[:, None] * 3 * WIDTH, mask=inside[:, None], other=0.0)
    kind = query.dtype
    # In a tile the distance i − j + TILE − 1 runs from 0 to 2 · TILE − 2.
    distance = places[:, None] - places[None, :] + TILE - 1
    best = tl.full([TILE], -float("inf"), tl.float32)
    total = tl.zeros([TILE], tl.float32)
    mixed = tl.zeros([TILE, SIZE], tl.float32)
    for first in range(0, length, TILE):
        columns = first + places
        there = columns < length
        other = base + columns[:, None] * 3 * WIDTH
        key = tl.load(other + WIDTH, mask=there[:, None], other=0.0)
        value = tl.load(other + 2 * WIDTH, mask=there[:, None], other=0.0)
        slot = tl.load(slots + reach + tile * TILE - first - (TILE - 1) + near)
        far = slot[:, None] * WIDTH + head * SIZE + dims[None, :]
        to_place = tl.dot(query, tl.trans(tl.load(keys + far))).to(kind)
        from_place = tl.dot(tl.load(queries + far), tl.trans(key)).to(kind)
        score = tl.dot(query, tl.trans(key))
        score += tl.gather(to_place, distance, 1).to(tl.float32)
        score += tl.gather(from_place, distance, 0).to(tl.float32)
        score = tl.where(there[None, :], score * scale, -float("inf"))
        highest = tl.maximum(best, tl.max(score, 1))
        weight = tl.exp2(score - highest[:, None])
        shrink = tl.exp2(best - highest)
        total = total * shrink + tl.sum(weight, 1)
        mixed = mixed * shrink[:, None] + tl.dot(weight.to(kind), value)
        best = highest
    there = out + (start + rows[:, None]) * WIDTH + head * SIZE + dims[None, :]
    tl.store(there, (mixed / total[:, None]).to(kind), mask=inside[:, None])


def attend(
    qkv: Tensor,
    keys: Tensor,
    queries: Tensor,
    slots: Tensor,
    offsets: Tensor,
    longest: int,
    heads: int,
) -> Tensor:
    """What each token takes from the others of its text.

    Args:
        qkv: (tokens, 3 · width) queries, keys and values of all heads, half precision.
        keys: (slots, width) keys of the distances.
        queries: (slots, width) queries of the distances.
        slots: int32 (2 · reach,) the slot of distance d at d + reach; reach is over longest + 64.
        offsets: int32 (texts + 1,) where each text starts, and the end.
        longest: tokens of the longest text.
        heads: attention heads.

    Returns:
        (tokens, width).
    """
    width = qkv.shape[1] // 3
    out = torch.empty((qkv.shape[0], width), dtype=qkv.dtype, device=qkv.device)
    size = width // heads
    grid = (triton.cdiv(longest, _TILE), (offsets.numel() - 1) * heads)
    scale = 1.4426950408889634 / (3 * size) ** 0.5  # the kernel takes powers of two
    _attend[grid](
        qkv, keys, queries, slots, offsets, out, scale, slots.numel() // 2,
        HEADS=heads, WIDTH=width, SIZE=size, TILE=_TILE, num_warps=_WARPS, num_stages=_STAGES,
    )  # fmt: skip
    return out
