"""DeBERTa's disentangled attention over packed texts, as one Triton kernel.

A token's score for another is query · key, plus query · key of their distance, plus key · query of
their distance. For a tile of queries and keys only the distances that occur in it are multiplied,
on chip, and each score picks its own: nothing of (tokens × distances) is ever written to memory.
A program does the same tile of several texts, a warp each, so that they share what they load of the
distances: that is most of the traffic.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

_TILE, _GROUP, _STAGES, _REGISTERS = 16, 4, 2, 160
"""The fastest of sixteen shapes on an H200."""


@triton.jit(do_not_specialize=["texts"])  # or it is compiled anew where 16 divides them
def _attend(
    qkv, keys, queries, offsets, out, scale, reach, texts,
    HEADS: tl.constexpr, WIDTH: tl.constexpr, SIZE: tl.constexpr, TILE: tl.constexpr,
    GROUP: tl.constexpr,
):  # fmt: skip
    tile = tl.program_id(0)
    group, head = tl.program_id(1) // HEADS, tl.program_id(1) % HEADS
    member = group * GROUP + tl.arange(0, GROUP)
    start = tl.load(offsets + member, mask=member < texts, other=0)
    length = tl.load(offsets + member + 1, mask=member < texts, other=0) - start
    longest = tl.max(length, 0)
    if tile * TILE >= longest:
        return
    places, dims, near = tl.arange(0, TILE), tl.arange(0, SIZE), tl.arange(0, 2 * TILE)
    rows = tile * TILE + places
    inside = (rows[None, :] < length[:, None])[:, :, None]
    base = qkv + head * SIZE
    row = (start[:, None] + rows[None, :])[:, :, None]
    query = tl.load(base + row * 3 * WIDTH + dims[None, None, :], mask=inside, other=0.0)
    kind = query.dtype
    # In a tile the distance i − j + TILE − 1 runs from 0 to 2 · TILE − 2.
    spot = tl.arange(0, GROUP * TILE) % TILE
    of_query = spot[:, None] - places[None, :] + TILE - 1
    of_key = places[None, :] - spot[:, None] + TILE - 1
    far = (head * 2 * reach + reach + tile * TILE - (TILE - 1) + near)[:, None] * SIZE
    far += dims[None, :]
    best = tl.full([GROUP, TILE], -1e30, tl.float32)
    total = tl.zeros([GROUP, TILE], tl.float32)
    mixed = tl.zeros([GROUP, TILE, SIZE], tl.float32)
    for first in range(0, longest, TILE):
        columns = first + places
        there = columns[None, :] < length[:, None]
        other = (start[:, None] + columns[None, :])[:, :, None] * 3 * WIDTH + dims[None, None, :]
        key = tl.load(base + WIDTH + other, mask=there[:, :, None], other=0.0)
        value = tl.load(base + 2 * WIDTH + other, mask=there[:, :, None], other=0.0)
        far_key = tl.load(keys + far - first * SIZE)
        far_query = tl.load(queries + far - first * SIZE)
        to_place = tl.dot(tl.reshape(query, [GROUP * TILE, SIZE]), tl.trans(far_key)).to(kind)
        to_place = tl.reshape(tl.gather(to_place, of_query, 1), [GROUP, TILE, TILE])
        from_place = tl.dot(tl.reshape(key, [GROUP * TILE, SIZE]), tl.trans(far_query)).to(kind)
        from_place = tl.reshape(tl.gather(from_place, of_key, 1), [GROUP, TILE, TILE])
        score = tl.dot(query, tl.permute(key, (0, 2, 1)))
        score += (to_place + tl.permute(from_place, (0, 2, 1))).to(tl.float32)
        score = tl.where(there[:, None, :], score * scale, -float("inf"))
        highest = tl.maximum(best, tl.max(score, 2))
        weight = tl.exp2(score - highest[:, :, None])
        shrink = tl.exp2(best - highest)
        total = total * shrink + tl.sum(weight, 2)
        mixed = mixed * shrink[:, :, None] + tl.dot(weight.to(kind), value)
        best = highest
    there = out + row * WIDTH + head * SIZE + dims[None, None, :]
    tl.store(there, (mixed / total[:, :, None]).to(kind), mask=inside)


def attend(
    qkv: Tensor, keys: Tensor, queries: Tensor, offsets: Tensor, wanted: int, heads: int
) -> Tensor:
    """What each token takes from the others of its text.

    Args:
        qkv: (tokens, 3 · width) queries, keys and values of all heads, half precision.
        keys: (heads, 2 · reach, size) keys of the distances from -reach on; reach is at least the
            tokens of the longest text and 64.
        queries: as `keys`, the queries of the distances.
        offsets: int32 (texts + 1,) where each text starts, and the end.
        wanted: how many of each text's first tokens are asked for; the rest may be left unset.
        heads: attention heads.

    Returns:
        (tokens, width).
    """
    width = qkv.shape[1] // 3
    out = torch.empty((qkv.shape[0], width), dtype=qkv.dtype, device=qkv.device)
    size, texts = width // heads, offsets.numel() - 1
    grid = (triton.cdiv(wanted, _TILE), triton.cdiv(texts, _GROUP) * heads)
    scale = 1.4426950408889634 / (3 * size) ** 0.5  # the kernel takes powers of two
    _attend[grid](
        qkv, keys, queries, offsets, out, scale, keys.shape[1] // 2, texts,
        HEADS=heads, WIDTH=width, SIZE=size, TILE=_TILE, GROUP=_GROUP,
        num_warps=_GROUP, num_stages=_STAGES, maxnreg=_REGISTERS,
    )  # fmt: skip
    return out
