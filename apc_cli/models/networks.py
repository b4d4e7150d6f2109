"""The two kinds of network behind a discriminator: prompts in, one logit row per branch out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from apc_cli.models.adapters import save_adapter
from apc_cli.models.branching import pack
from apc_cli.prompts import Prompt


class Network(Protocol):
    """What a discriminator needs of its network."""

    model: Any

    def logits(self, prompts: Sequence[Prompt]) -> Tensor:
        """(all branches, labels): the branches of the first prompt, then of the second, ..."""

    def cost(self, prompt: Prompt) -> int:
        """About how many tokens the prompt takes, for batching."""

    def parameters(self) -> list[nn.Parameter]:
        """What training may change."""

    def save(self, directory: Path, base: str, dtype: torch.dtype | None) -> None:
        """Writes the trained weights."""


class FlatClassifier:
    """Reads each text on its own: any encoder, or a decoder with a head, of transformers."""

    def __init__(self, model: Any, tokenizer: Any, max_tokens: int = 512) -> None:
        self.model, self.tokenizer, self.max_tokens = model, tokenizer, max_tokens

    def logits(self, prompts: Sequence[Prompt]) -> Tensor:
        texts = [prompt.prefix + branch for prompt in prompts for branch in prompt.branches]
        batch = self.tokenizer(
            texts, padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt"
        )
        return self.model(**batch.to(self.model.device)).logits.float()

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

    def __init__(self, model: Any, tokenizer: Any, max_prefix: int = 384) -> None:
        self.model, self.tokenizer, self.max_prefix = model, tokenizer, max_prefix

    def logits(self, prompts: Sequence[Prompt]) -> Tensor:
        groups = [self._tokens(prompt) for prompt in prompts]
        batch = pack(groups, self.tokenizer.pad_token_id or 0, self.model.device)
        classifier = getattr(self.model, "get_base_model", lambda: self.model)()
        states = classifier.model(
            input_ids=batch.input_ids,
            position_ids=batch.position_ids,
            attention_mask=batch.allowed,
            use_cache=False,
        ).last_hidden_state
        last = [states[row, ends] for row, ends in enumerate(batch.ends)]
        return classifier.score(torch.cat(last).to(classifier.score.weight.dtype)).float()

    def cost(self, prompt: Prompt) -> int:
        return (len(prompt.prefix) + sum(len(branch) for branch in prompt.branches)) // 4 + 1

    def parameters(self) -> list[nn.Parameter]:
        return [p for p in self.model.parameters() if p.requires_grad]

    def save(self, directory: Path, base: str, dtype: torch.dtype | None) -> None:
        save_adapter(self.model, directory, base=base, dtype=dtype)

    def _tokens(self, prompt: Prompt) -> tuple[list[int], list[list[int]]]:
        prefix = self.tokenizer(prompt.prefix, add_special_tokens=False).input_ids
        branches = self.tokenizer(list(prompt.branches), add_special_tokens=False).input_ids
        return prefix[-self.max_prefix :], branches
