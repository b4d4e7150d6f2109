"""The two kinds of network behind a discriminator: prompts in, one logit row per branch out."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from apc_cli.models.adapters import save_adapter
from apc_cli.models.branching import TokenGroup, pack
from apc_cli.models.devices import on
from apc_cli.models.judging.cores import side_by_side
from apc_cli.models.judging.lean_llama import LeanLlama
from apc_cli.models.judging.packing import PackedClassifier, packed_batches
from apc_cli.models.judging.token_batches import Ids, TokenReader, batches, to_device
from apc_cli.prompts import Prompt


class Network(Protocol):
    """What a discriminator needs of its network."""

    model: Any

    def logits(self, prompts: Sequence[Prompt]) -> Tensor:
        """(all branches, labels): the branches of the first prompt, then of the second, ..."""

    def run(
        self, prompts: Sequence[Prompt], batch_tokens: int | None
    ) -> Iterator[tuple[list[int], Tensor]]:
        """(indices of prompts, their logits as `logits` gives them), until all had their turn."""

    def cost(self, prompt: Prompt) -> int:
        """About how many tokens the prompt takes, for batching."""

    @property
    def reads_apart(self) -> bool:
        """Whether each prompt is read by itself, many on as many cores."""

    @property
    def truncated(self) -> int:
        """How many inputs were longer than the model reads, so far."""

    def parameters(self) -> list[nn.Parameter]:
        """What training may change."""

    def save(self, directory: Path, base: str, dtype: torch.dtype | None) -> None:
        """Writes the trained weights."""


_GPU_TOKENS, _CPU_TOKENS = 65_536, 4_096
"""Tokens of a batch: what fills a GPU, and what stays in a CPU's caches."""


class FlatClassifier:
    """Reads each text on its own: any encoder, or a decoder with a head, of transformers."""

    reads_apart = False

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        max_tokens: int = 512,
        packed: PackedClassifier | None = None,
    ) -> None:
        self.model, self.tokenizer, self.max_tokens = model, tokenizer, max_tokens
        self._packed, self._reader = packed, TokenReader(tokenizer, max_tokens)

    def logits(self, prompts: Sequence[Prompt]) -> Tensor:
        batch = self.tokenizer(
            _texts(prompts),
            padding=True,
            truncation=True,
            max_length=self.max_tokens,
            return_tensors="pt",
        )
        return self.model(**batch.to(self.model.device)).logits.float()

    def run(
        self, prompts: Sequence[Prompt], batch_tokens: int | None
    ) -> Iterator[tuple[list[int], Tensor]]:
        """All prompts in one answer; a text that comes twice is read once."""
        texts = _texts(prompts)
        if not texts:
            return
        distinct = {text: i for i, text in enumerate(dict.fromkeys(texts))}
        on_gpu = self.model.device.type == "cuda"
        found = self._read(list(distinct), batch_tokens or (_GPU_TOKENS if on_gpu else _CPU_TOKENS))
        yield (
            [i for i, prompt in enumerate(prompts) if prompt.branches],
            found[torch.tensor([distinct[text] for text in texts])],
        )

    @property
    def truncated(self) -> int:
        return self._reader.truncated

    def _read(self, texts: list[str], budget: int) -> Tensor:
        """(texts, labels) on the CPU; the device is waited for once, at the end."""
        parts: list[Tensor] = []
        order: list[int] = []
        with on(self.model.device):
            for start, ids in self._reader.windows(texts):
                for batch, logits in self._judged(ids, budget):
                    parts.append(logits)
                    order += [start + i for i in batch]
            found = torch.cat(parts).float().cpu()
        return torch.empty_like(found).index_copy_(0, torch.tensor(order), found)

    def _judged(self, ids: Sequence[Ids], budget: int) -> Iterator[tuple[list[int], Tensor]]:
        """(indices of texts, their logits), batch by batch."""
        if self._packed:
            for batch, texts in packed_batches(ids, budget, self.model.device):
                yield batch, self._packed.logits(texts)
        else:
            for batch in batches([len(one) for one in ids], budget, padded=True):
                yield batch, self._padded([ids[i] for i in batch])

    def _padded(self, ids: list[Ids]) -> Tensor:
        device, width = self.model.device, max(len(one) for one in ids)
        rows = np.full((len(ids), width), self.tokenizer.pad_token_id or 0, np.int64)
        mask = np.zeros((len(ids), width), np.int64)
        for row, one in enumerate(ids):
            rows[row, : len(one)], mask[row, : len(one)] = one, 1
        return self.model(
            input_ids=to_device(rows, device), attention_mask=to_device(mask, device)
        ).logits

    def cost(self, prompt: Prompt) -> int:
        longest = max(len(branch) for branch in prompt.branches)
        return (len(prompt.prefix) + longest) // 3 * len(prompt.branches)

    def parameters(self) -> list[nn.Parameter]:
        return [p for p in self.model.parameters() if p.requires_grad]

    def save(self, directory: Path, base: str, dtype: torch.dtype | None) -> None:
        self.model.save_pretrained(directory)
        self.tokenizer.save_pretrained(directory)


class BranchingDecoder:
    """A decoder with a LoRA adapter and a head; reads a prefix once for all its branches."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        max_prefix: int = 384,
        lean: LeanLlama | None = None,
    ) -> None:
        """`lean` reads in place of the model, whose layers it has."""
        self.model, self.tokenizer, self.max_prefix = model, tokenizer, max_prefix
        self._lean, self.truncated = lean, 0

    @property
    def reads_apart(self) -> bool:
        return self._lean is not None

    def logits(self, prompts: Sequence[Prompt]) -> Tensor:
        return self._logits([self._tokens(prompt) for prompt in prompts])

    def _logits(self, groups: list[TokenGroup]) -> Tensor:
        batch = pack(groups, self.tokenizer.pad_token_id or 0, self.model.device)
        if self._lean:
            return self._lean.logits(batch)
        classifier = getattr(self.model, "get_base_model", lambda: self.model)()
        states = classifier.model(
            input_ids=batch.input_ids,
            position_ids=batch.position_ids,
            attention_mask=batch.allowed,
            use_cache=False,
        ).last_hidden_state
        last = [states[row, ends] for row, ends in enumerate(batch.ends)]
        return classifier.score(torch.cat(last).to(classifier.score.weight.dtype)).float()

    def run(
        self, prompts: Sequence[Prompt], batch_tokens: int | None
    ) -> Iterator[tuple[list[int], Tensor]]:
        """Batches of prompts of like length; on a CPU's own reader, each prompt by itself."""
        filled = [i for i, prompt in enumerate(prompts) if prompt.branches]
        if self._lean:
            yield from self._apart(filled, [prompts[i] for i in filled])
            return
        budget = batch_tokens or (32_768 if torch.cuda.is_available() else 2_048)
        costs = [self.cost(prompts[i]) for i in filled]
        for batch in batches(costs, budget, padded=True):
            indices = [filled[i] for i in batch]
            yield indices, self.logits([prompts[i] for i in indices])

    def cost(self, prompt: Prompt) -> int:
        return (len(prompt.prefix) + sum(len(branch) for branch in prompt.branches)) // 4 + 1

    def parameters(self) -> list[nn.Parameter]:
        return [p for p in self.model.parameters() if p.requires_grad]

    def save(self, directory: Path, base: str, dtype: torch.dtype | None) -> None:
        save_adapter(self.model, directory, base=base, dtype=dtype)

    def _apart(
        self, indices: list[int], prompts: list[Prompt]
    ) -> Iterator[tuple[list[int], Tensor]]:
        """Each prompt's logits, the same bits in whatever company; the longest are begun first."""
        order = sorted(range(len(prompts)), key=lambda i: -self.cost(prompts[i]))
        work = [partial(self._logits, [self._tokens(prompts[i])]) for i in order]
        for place, logits in zip(order, side_by_side(work), strict=True):
            yield [indices[place]], logits

    def _tokens(self, prompt: Prompt) -> TokenGroup:
        prefix = self.tokenizer(prompt.prefix, add_special_tokens=False).input_ids
        branches = self.tokenizer(list(prompt.branches), add_special_tokens=False).input_ids
        self.truncated += len(prefix) > self.max_prefix
        return prefix[-self.max_prefix :], branches


def _texts(prompts: Sequence[Prompt]) -> list[str]:
    return [prompt.prefix + branch for prompt in prompts for branch in prompt.branches]
