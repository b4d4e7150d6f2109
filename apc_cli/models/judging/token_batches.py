"""Texts as token ids: read on threads while the device works, batched by length.

Every text is tokenised once. Windows of texts are read ahead of the device; inside a window the
batches hold texts of like length, so that little or nothing is padded.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import Any

import numpy as np
import torch

WINDOW = 4096
"""Texts that are sorted together at most; the first window is an eighth, each of the next twice the
one before, so that the device starts soon and never waits."""

_LONGEST_TOKEN = 100
"""Characters a token is taken to have at most: what lies beyond is cut before it is read."""

Ids = np.ndarray


class TokenReader:
    """The token ids of texts, cut at `max_tokens`; counts the texts that were cut."""

    def __init__(self, tokenizer: Any, max_tokens: int, threads: int | None = None) -> None:
        self.truncated = 0
        self._tokenizer, self._max_tokens = tokenizer, max_tokens
        self._threads = threads or min(16, os.cpu_count() or 1)
        self._backend: Any = None
        self._lock = Lock()

    def read(self, texts: Sequence[str]) -> list[Ids]:
        """int32 ids of each text, as the tokenizer itself would give them."""
        slices = [texts[i :: self._threads] for i in range(self._threads)]
        found: list[Ids] = [np.zeros(0, np.int32)] * len(texts)
        with ThreadPoolExecutor(self._threads) as pool:
            for start, part in enumerate(pool.map(self._read, slices)):
                found[start :: self._threads] = part
        return found

    def windows(self, texts: Sequence[str]) -> Iterator[tuple[int, list[Ids]]]:
        """(index of the first text, ids) of one window after the other, one read ahead."""
        starts, size = [0], WINDOW // 8
        while starts[-1] + size < len(texts):
            starts.append(starts[-1] + size)
            size = min(2 * size, WINDOW)
        ends = [*starts[1:], len(texts)]
        with ThreadPoolExecutor(1) as ahead:
            coming: Future[list[Ids]] = ahead.submit(self.read, texts[: ends[0]])
            for index, start in enumerate(starts):
                ids = coming.result()
                if index + 1 < len(starts):
                    coming = ahead.submit(self.read, texts[ends[index] : ends[index + 1]])
                yield start, ids

    def _read(self, texts: Sequence[str]) -> list[Ids]:
        limit = self._max_tokens * _LONGEST_TOKEN
        encoded = self._own_backend().encode_batch_fast([text[:limit] for text in texts])
        with self._lock:
            self.truncated += sum(bool(one.overflowing) for one in encoded)
        return [np.asarray(one.ids, np.int32) for one in encoded]

    def _own_backend(self) -> Any:
        """A copy that always truncates: whoever trains with the tokenizer changes its settings."""
        with self._lock:
            if self._backend is None:
                backend = self._tokenizer.backend_tokenizer
                self._backend = type(backend).from_str(backend.to_str())
                self._backend.no_padding()
                self._backend.enable_truncation(self._max_tokens)
            return self._backend


def batches(lengths: Sequence[int], budget: int, *, padded: bool) -> Iterator[list[int]]:
    """Indices of texts of like length, longest first, within a budget of tokens.

    `padded` counts every text as long as the longest of its batch.
    """
    batch: list[int] = []
    taken = 0
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        size = lengths[batch[0]] if padded and batch else lengths[index]
        if batch and taken + size > budget:
            yield batch
            batch, taken, size = [], 0, lengths[index]
        batch.append(index)
        taken += size
    if batch:
        yield batch


def to_device(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """The array on the device; on a GPU through pinned memory, without waiting for it."""
    tensor = torch.from_numpy(array)
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
