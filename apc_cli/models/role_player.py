"""The role-play model: a chat model of transformers, with or without a LoRA adapter."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from threading import Event, Thread
from typing import Any

import torch
from peft import PeftModel
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    StoppingCriteria,
    StoppingCriteriaList,
    TextIteratorStreamer,
)
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer
from transformers.utils import is_bitsandbytes_available

from apc_cli.config import Policy
from apc_cli.errors import ConfigError
from apc_cli.models.adapters import load_adapter
from apc_cli.models.devices import pick_device, pick_dtype
from apc_cli.models.references import resolve
from apc_cli.records import Message

_REPEATABLE = (DynamicLayer, DynamicSlidingWindowLayer)
"""Layers of a cache that can be repeated for several replies."""


@dataclass(frozen=True)
class Sampling:
    """How replies are drawn; `seed` and the conversations decide them."""

    max_new_tokens: int = 256
    temperature: float = 1.0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0

    @classmethod
    def of(cls, policy: Policy, seed: int) -> "Sampling":
        """The configured sampling."""
        return cls(
            max_new_tokens=policy.max_new_tokens,
            temperature=policy.temperature,
            top_p=policy.top_p,
            min_p=policy.min_p,
            repetition_penalty=policy.repetition_penalty,
            seed=seed,
        )


class RolePlayer:
    """Answers conversations as the character."""

    def __init__(self, model: Any, tokenizer: Any, reference: str) -> None:
        self.model, self.tokenizer, self.reference = model, tokenizer, reference
        self.tokenizer.padding_side = "left"
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.keeps_system_role = _keeps_system_role(tokenizer)

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
    ) -> "RolePlayer":
        """The base model, in nf4 where asked, with the adapter of a directory on it.

        Raises:
            ConfigError: the model cannot be had, or nf4 without CUDA and bitsandbytes.
            DataError: the adapter is damaged or was made for another base model.
        """
        where, target = resolve(model), pick_device(device)
        options: dict[str, Any] = {"trust_remote_code": False, "use_safetensors": True}
        if _use_nf4(quantization, target):
            options |= {"quantization_config": _nf4(), "device_map": {"": target}}
        try:
            base = AutoModelForCausalLM.from_pretrained(
                where, dtype=pick_dtype(dtype, target), **options
            )
            tokenizer = AutoTokenizer.from_pretrained(where, trust_remote_code=False)
        except (OSError, ValueError) as error:
            first = str(error).strip().split("\n")[0]
            raise ConfigError(
                f"cannot load the role-play model {model}: {first}",
                "gated models need HF_TOKEN and an accepted licence",
            ) from error
        if "quantization_config" not in options:
            base = base.to(target)
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

    def count_tokens(self, conversation: Sequence[Message]) -> int:
        """How many tokens the conversation takes in the model's template."""
        text = self.prompt_text(conversation)
        return len(self.tokenizer(text, add_special_tokens=False).input_ids)

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

    @torch.inference_mode()
    def sample(
        self,
        conversations: Sequence[Sequence[Message]],
        n: int,
        sampling: Sampling,
        batch_size: int = 16,
        done: Callable[[int], None] | None = None,
    ) -> list[list[str]]:
        """Samples n replies to each conversation, `batch_size` replies at a time.

        `done` is called with the number of conversations that were just finished.
        """
        replies: list[list[str]] = []
        step = max(1, batch_size // n)
        for start in range(0, len(conversations), step):
            batch = conversations[start : start + step]
            torch.manual_seed(sampling.seed + start)
            replies += self._sample_batch(batch, n, sampling)
            if done:
                done(len(batch))
        return replies

    def stream(self, conversation: Sequence[Message], sampling: Sampling) -> Iterator[str]:
        """One reply, piece by piece as it is written; a reader that goes away stops the writing."""
        inputs = self._encode([self.prompt_text(conversation)])
        streamer = TextIteratorStreamer(
            self.tokenizer, skip_prompt=True, skip_special_tokens=True, timeout=300
        )
        torch.manual_seed(sampling.seed)
        left = Event()
        options = self._generation_options(sampling) | {
            "streamer": streamer,
            "stopping_criteria": StoppingCriteriaList([_StopWhen(left)]),
        }
        failures: list[Exception] = []

        def generate() -> None:
            try:
                self.model.generate(**inputs, **options)
            except Exception as error:  # handed over to the reader below
                failures.append(error)
                streamer.end()

        worker = Thread(target=generate, daemon=True)
        worker.start()
        try:
            yield from streamer
        finally:
            left.set()
            worker.join()
        if failures:
            raise failures[0]

    @torch.inference_mode()
    def negative_log_likelihood(
        self, conversations: Sequence[Sequence[Message]], replies: Sequence[str]
    ) -> list[float]:
        """Mean NLL per token of each reply under the base model, in nats; empty replies get 0.

        Replies to the same conversation, one after another, are read together.
        """
        found: list[float] = []
        pairs = zip(map(self.prompt_text, conversations), replies, strict=True)
        with _without_adapter(self.model):
            for prompt, group in groupby(pairs, key=itemgetter(0)):
                found += self._likelihoods(prompt, [reply for _, reply in group])
        return found

    def _likelihoods(self, prompt: str, replies: Sequence[str]) -> list[float]:
        """Mean NLL per token of several replies to one prompt, which is read once."""
        start = self._encode([prompt])
        rows = [self._encode([reply])["input_ids"][0].long() for reply in replies]
        lengths = torch.tensor([len(row) for row in rows], device=self.model.device)
        if not lengths.any():
            return [0.0] * len(rows)
        answers = pad_sequence(rows, batch_first=True, padding_value=self.tokenizer.pad_token_id)
        said = torch.arange(answers.shape[1], device=answers.device) < lengths[:, None]
        cache = self._read_once(start, len(rows))
        prompts = start["input_ids"] if cache is None else start["input_ids"][:, -1:]
        read = start["attention_mask"].expand(len(rows), -1)
        logits = self.model(
            input_ids=torch.cat([prompts.expand(len(rows), -1), answers], dim=1),
            attention_mask=torch.cat([read, said.to(read.dtype)], dim=1),
            logits_to_keep=answers.shape[1] + 1,
            **({} if cache is None else {"past_key_values": cache}),
        ).logits
        log_probs = torch.log_softmax(logits[:, :-1].float(), dim=-1)
        losses = -log_probs.gather(-1, answers[..., None])[..., 0] * said
        return (losses.sum(1) / lengths.clamp(min=1)).tolist()

    def _sample_batch(
        self, conversations: Sequence[Sequence[Message]], n: int, sampling: Sampling
    ) -> list[list[str]]:
        inputs = self._encode([self.prompt_text(c) for c in conversations])
        options = self._generation_options(sampling)
        cache = self._read_once(inputs, n) if n > 1 else None
        if cache is None:
            options["num_return_sequences"] = n
        else:
            options["past_key_values"] = cache
            inputs = {name: rows.repeat_interleave(n, dim=0) for name, rows in inputs.items()}
        output = self.model.generate(**inputs, **options)
        new = output[:, inputs["input_ids"].shape[1] :]
        texts = [clean(text) for text in self.tokenizer.batch_decode(new, skip_special_tokens=True)]
        return [texts[i : i + n] for i in range(0, len(texts), n)]

    def _read_once(self, inputs: dict[str, torch.Tensor], n: int) -> Any:
        """The cache of the prompts without their last token, read once and repeated n times.

        None where the model remembers in another way than by keys and values of each token.
        """
        mask = inputs["attention_mask"][:, :-1]
        output = self.model(
            input_ids=inputs["input_ids"][:, :-1],
            attention_mask=mask,
            position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
            use_cache=True,
            logits_to_keep=1,
        )
        cache = getattr(output, "past_key_values", None)
        if any(type(layer) not in _REPEATABLE for layer in getattr(cache, "layers", [None])):
            return None
        cache.batch_repeat_interleave(n)
        return cache

    def _encode(self, texts: list[str]) -> dict[str, torch.Tensor]:
        batch = self.tokenizer(
            texts, padding=True, add_special_tokens=False, return_tensors="pt"
        ).to(self.model.device)
        return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}

    def _generation_options(self, sampling: Sampling) -> dict[str, Any]:
        return {
            "do_sample": True,
            "max_new_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "min_p": sampling.min_p or None,
            "top_k": 0,
            "repetition_penalty": sampling.repetition_penalty,
            "pad_token_id": self.tokenizer.pad_token_id,
        }


class _StopWhen(StoppingCriteria):
    """Stops all sequences once the event is set."""

    def __init__(self, event: Event) -> None:
        self._event = event

    def __call__(self, input_ids: Any, scores: Any, **options: Any) -> torch.Tensor:
        return torch.full((len(input_ids),), self._event.is_set(), device=input_ids.device)


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
        return "§probe§" in tokenizer.apply_chat_template(probe, tokenize=False)
    except Exception as error:  # noqa: BLE001 - templates raise jinja2's and other errors
        if "chat_template is not set" in str(error):
            raise ConfigError(
                "the role-play model has no chat template", "use a chat model"
            ) from None
        return False


def _use_nf4(quantization: str, device: torch.device) -> bool:
    if quantization == "none" or (quantization == "auto" and device.type != "cuda"):
        return False
    if device.type != "cuda" or not is_bitsandbytes_available():
        raise ConfigError(
            "4-bit loading needs a CUDA GPU and bitsandbytes",
            "run: pip install 'apc-cli[gpu]', or set policy.quantization: none",
        )
    return True


def _nf4() -> BitsAndBytesConfig:
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
    )


def _without_adapter(model: Any) -> Any:
    return model.disable_adapter() if isinstance(model, PeftModel) else torch.no_grad()
