"""The three kinds of network behind a discriminator: prompts in, one logit row per branch out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from apc_cli.errors import DataError
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
        batch = pack(groups, self.tokenizer.pad_token_id, self.model.device)
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


class BiEncoder:
    """Embeds prefix and branch apart and compares them dimension by dimension.

    logit(yes) = Σ weight_i · u_i · v_i + bias over unit embeddings u, v; with equal weights that is
    a calibrated cosine similarity. logit(no) is 0.
    """

    HEAD = "head.safetensors"

    def __init__(self, model: Any, tokenizer: Any, weight: Tensor, bias: Tensor) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    @classmethod
    def fresh(cls, model: Any, tokenizer: Any) -> "BiEncoder":
        """Equal weights: a cosine of 0.35 is as likely relevant as not."""
        scale = 8.0
        weight = torch.full((model.config.hidden_size,), scale)
        return cls(model, tokenizer, weight, torch.tensor(-0.35 * scale))

    @classmethod
    def with_head(cls, model: Any, tokenizer: Any, directory: Path) -> "BiEncoder":
        """The head saved in the directory."""
        path = directory / cls.HEAD
        if not path.is_file():
            raise DataError(f"{path} is missing: not a complete bi-encoder checkpoint")
        head = load_file(path)
        return cls(model, tokenizer, head["weight"].float(), head["bias"].float())

    def logits(self, prompts: Sequence[Prompt]) -> Tensor:
        prefixes = self._embed([prompt.prefix for prompt in prompts])
        branches = self._embed([branch for prompt in prompts for branch in prompt.branches])
        owner = [row for row, prompt in enumerate(prompts) for _ in prompt.branches]
        yes = (prefixes[owner] * branches * self.weight.to(branches)).sum(-1) + self.bias.to(
            branches
        )
        return torch.stack([torch.zeros_like(yes), yes], dim=-1)

    def cost(self, prompt: Prompt) -> int:
        return (len(prompt.prefix) + sum(len(branch) for branch in prompt.branches)) // 4 + 1

    def parameters(self) -> list[nn.Parameter]:
        inner = [p for p in self.model.parameters() if p.requires_grad]
        return [*inner, self.weight, self.bias]

    def save(self, directory: Path, base: str, dtype: torch.dtype | None) -> None:
        save_adapter(self.model, directory, base=base, dtype=dtype)
        head = {"weight": self.weight.detach().cpu(), "bias": self.bias.detach().cpu()}
        save_file(head, directory / self.HEAD)

    def _embed(self, texts: list[str]) -> Tensor:
        distinct = list(dict.fromkeys(texts))
        batch = self.tokenizer(
            distinct, padding=True, truncation=True, max_length=256, return_tensors="pt"
        ).to(self.model.device)
        states = self.model(**batch).last_hidden_state.float()
        mask = batch["attention_mask"][..., None].float()
        vectors = nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)
        row = {text: index for index, text in enumerate(distinct)}
        return vectors[[row[text] for text in texts]]
