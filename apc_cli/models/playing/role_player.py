"""The role-play model: a chat model of transformers, with or without a LoRA adapter."""

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import torch

from apc_cli.config import Policy
from apc_cli.errors import ConfigError, DataError
from apc_cli.models import ranks
from apc_cli.models.adapters import check_base, load_adapter
from apc_cli.models.playing.chat_models import Placement, is_spread, load_chat_model
from apc_cli.models.playing.likelihood import mean_losses, without_adapter
from apc_cli.models.playing.sampling import Sampling, generate, generation_options, stream
from apc_cli.models.playing.slot_sampling import SlotSampler, out_of_memory
from apc_cli.models.playing.slots import UnsupportedModel
from apc_cli.models.playing.time_limit import TooLong, at_most
from apc_cli.records import Message

_AT_ONCE = 16
"""Replies in a batch where no number is given and the decoding loop is not used."""
_PATIENCE = 8.0
"""Seconds that a chat template may take for a conversation of two lines."""

_log = logging.getLogger(__name__)


class RolePlayer:
    """Answers conversations as the character."""

    has_likelihoods = True

    def __init__(self, model: Any, tokenizer: Any, reference: str) -> None:
        self.model, self.tokenizer, self.reference = model, tokenizer, reference
        self.tokenizer.padding_side = "left"
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.keeps_system_role = _keeps_system_role(tokenizer)

    @cached_property
    def _slot_sampler(self) -> SlotSampler | None:
        """The decoding loop, where it reads a model on one device as that reads itself."""
        if self.model.device.type not in ("cpu", "cuda") or is_spread(self.model):
            return None
        sampler = SlotSampler(self.model)
        return sampler if sampler.supported else None

    @classmethod
    def load(
        cls,
        model: str,
        *,
        adapter: Path | None = None,
        quantization: str = "none",
        device: str = "auto",
        dtype: str = "auto",
        trainable: bool = False,
        placement: Placement = "whole",
    ) -> "RolePlayer":
        """The base model, in nf4 where asked, with the adapter of a directory on it.

        Raises:
            ConfigError: the model cannot be had, does not fit, is another than the adapter's, or
                nf4 without CUDA and bitsandbytes.
            DataError: the adapter is damaged.
        """
        if adapter:
            check_base(adapter, model)
        base, tokenizer, where = load_chat_model(model, quantization, device, dtype, placement)
        if adapter:
            base = load_adapter(base, adapter, trainable=trainable)
        return cls(base.eval(), tokenizer, where)

    def prompt_text(self, conversation: Sequence[Message]) -> str:
        """The conversation in the model's chat template, up to where its answer begins."""
        return str(
            self.tokenizer.apply_chat_template(
                self.template_messages(conversation), tokenize=False, add_generation_prompt=True
            )
        )

    def prompt_tokens(self, conversations: Sequence[Sequence[Message]]) -> list[list[int]]:
        """The token ids of each conversation's `prompt_text`."""
        texts = [self.prompt_text(conversation) for conversation in conversations]
        return list(self.tokenizer(texts, add_special_tokens=False).input_ids)

    def count_tokens(self, conversation: Sequence[Message]) -> int:
        """How many tokens the conversation takes in the model's template."""
        return len(self.prompt_tokens([conversation])[0])

    @property
    def context_length(self) -> int | None:
        """How many tokens the model reads at most, where its configuration says so."""
        return getattr(self.model.config.get_text_config(), "max_position_embeddings", None)

    def room_for_prompts(self, policy: Policy) -> int:
        """How many tokens a prompt may take, so that it and a reply fit into the model.

        However long replies may be, a quarter of the context is left for the prompt.
        """
        if self.context_length is None:
            return policy.max_prompt_tokens
        room = max(self.context_length - policy.max_new_tokens, self.context_length // 4)
        return min(policy.max_prompt_tokens, room)

    def fills(self, reply: str, max_new_tokens: int) -> bool:
        """Whether the reply is as long as replies may be, so that it was probably cut off.

        Two tokens are spared, for what cleaning took away.
        """
        return len(self.tokenizer(reply, add_special_tokens=False).input_ids) >= max_new_tokens - 2

    def template_messages(self, conversation: Sequence[Message]) -> list[Message]:
        """The conversation as the template takes it: system text in the user's turn if need be."""
        turns = [dict(message) for message in conversation]
        if self.keeps_system_role or not turns or turns[0]["role"] != "system":
            return turns
        system, first, *rest = turns
        merged = {"role": "user", "content": f"{system['content']}\n\n{first['content']}"}
        return [merged, *rest]

    def sample(
        self,
        conversations: Sequence[Sequence[Message]],
        n: int,
        sampling: Sampling,
        batch_size: int | None = None,
        done: Callable[[int], None] | None = None,
    ) -> list[list[str]]:
        """Samples n replies to each conversation, `batch_size` replies at a time; None: what fits.

        `done` is called with the number of conversations that were just finished.
        """
        return [
            [clean(text) for text in self.tokenizer.batch_decode(one, skip_special_tokens=True)]
            for one in self.sample_tokens(conversations, n, sampling, batch_size, done)
        ]

    @torch.inference_mode()
    def sample_tokens(
        self,
        conversations: Sequence[Sequence[Message]],
        n: int,
        sampling: Sampling,
        batch_size: int | None = None,
        done: Callable[[int], None] | None = None,
    ) -> list[list[list[int]]]:
        """As `sample`, the replies' token ids, with the one that ends a reply where one does."""
        if self._slot_sampler:
            try:
                prompts = self.prompt_tokens(conversations)
                return self._slot_sampler.sample(prompts, n, sampling, batch_size, done)
            except UnsupportedModel as error:
                _log.warning("sampling by generate: %s", error)
                self._slot_sampler = None
        replies: list[list[list[int]]] = []
        step = self.conversations_at_once(batch_size, n)
        while batch := conversations[len(replies) : len(replies) + step]:
            torch.manual_seed(sampling.seed + len(replies))
            found = self._sample_batch(batch, n, sampling)
            if found is None:
                step = max(1, step // 2)
                continue
            replies += found
            if done:
                done(len(batch))
        return replies

    def conversations_at_once(
        self, batch_size: int | None, n: int, total: int | None = None
    ) -> int:
        """How many of `total` conversations are well sampled together, n replies to each.

        Where replies are started as others end, a caller may hand over more than are under way, and
        what is sampled together decides nothing: then each process of the run gets its share.
        """
        if self._slot_sampler:
            most = max(1, max(batch_size or 0, self._slot_sampler.most_at_once) // n)
            return min(most, max(1, -(-total // ranks.count()))) if total else most
        return max(1, (batch_size or _AT_ONCE) // n)

    def stream(self, conversation: Sequence[Message], sampling: Sampling) -> Iterator[str]:
        """One reply, piece by piece as it is written; a reader that goes away stops the writing."""
        torch.manual_seed(sampling.seed)
        options = generation_options(sampling, self.tokenizer.pad_token_id)
        inputs = self._encode([self.prompt_text(conversation)])
        yield from stream(self.model, self.tokenizer, inputs, options)

    @torch.inference_mode()
    def negative_log_likelihood(
        self, conversations: Sequence[Sequence[Message]], replies: Sequence[str]
    ) -> list[float]:
        """Mean NLL per token of each reply under the base model, in nats; empty replies get 0.

        Replies to the same conversation, one after another, are read together.
        """
        found: list[float] = []
        pairs = zip(map(self.prompt_text, conversations), replies, strict=True)
        with without_adapter(self.model):
            for prompt, group in groupby(pairs, key=itemgetter(0)):
                rows = [self._encode([reply])["input_ids"][0].long() for _, reply in group]
                start = self._encode([prompt])
                found += mean_losses(self.model, start, rows, self.tokenizer.pad_token_id)
        return found

    def _sample_batch(
        self, conversations: Sequence[Sequence[Message]], n: int, sampling: Sampling
    ) -> list[list[list[int]]] | None:
        """The replies; None where memory did not suffice, but may for fewer conversations."""
        inputs = self._encode([self.prompt_text(c) for c in conversations])
        options = generation_options(sampling, self.tokenizer.pad_token_id)
        try:
            replies = generate(self.model, inputs, n, options)
            return [replies[i : i + n] for i in range(0, len(replies), n)]
        except torch.OutOfMemoryError:
            if len(conversations) == 1:
                raise out_of_memory(n) from None
        torch.cuda.empty_cache()
        return None

    def _encode(self, texts: list[str]) -> dict[str, torch.Tensor]:
        batch = self.tokenizer(
            texts, padding=True, add_special_tokens=False, return_tensors="pt"
        ).to(self.model.device)
        return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}


def clean(text: str, character: str = "") -> str:
    """A reply as it is kept: no surrounding space, no speaker label, at most one blank line."""
    text = text.strip()
    for speaker in ("assistant", character):
        if speaker:
            text = text.removeprefix(f"{speaker}:").lstrip()
    return re.sub(r"\n{3,}", "\n\n", text)


def _keeps_system_role(tokenizer: Any) -> bool:
    """Whether the chat template shows a system message; Gemma's refuses one."""
    probe = [{"role": "system", "content": "§probe§"}, {"role": "user", "content": "x"}]
    try:
        with at_most(_PATIENCE):
            return "§probe§" in tokenizer.apply_chat_template(
                probe, tokenize=False, add_generation_prompt=True
            )
    except TooLong:
        raise DataError(
            f"the role-play model's chat template took more than {_PATIENCE:g} s for two messages",
            "it never ends, or is made to take long: use another model",
        ) from None
    except Exception as error:  # noqa: BLE001 - templates raise jinja2's and other errors
        if "chat_template is not set" in str(error):
            raise ConfigError(
                "the role-play model has no chat template", "use a chat model"
            ) from None
        return False
