"""How replies are drawn, and transformers' `generate` drawing them."""

from collections.abc import Iterator
from dataclasses import dataclass
from threading import Event, Thread
from typing import Any

import torch
from transformers import StoppingCriteria, StoppingCriteriaList, TextIteratorStreamer

from apc_cli.config import Policy
from apc_cli.models.playing.slots import PLAIN_LAYERS

Inputs = dict[str, torch.Tensor]
"""`input_ids` and `attention_mask`, each (rows, tokens), padded on the left."""


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


def generation_options(sampling: Sampling, pad_token_id: int) -> dict[str, Any]:
    """The sampling as `generate` takes it."""
    return {
        "do_sample": True,
        "max_new_tokens": sampling.max_new_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "min_p": sampling.min_p or None,
        "top_k": 0,
        "repetition_penalty": sampling.repetition_penalty,
        "pad_token_id": pad_token_id,
    }


def generate(model: Any, inputs: Inputs, n: int, options: dict[str, Any]) -> list[list[int]]:
    """The new tokens of n replies to each row, which is read once; those of a row together."""
    cache = read_once(model, inputs, n) if n > 1 else None
    if cache is None:
        options = options | {"num_return_sequences": n}
    else:
        options = options | {"past_key_values": cache}
        inputs = {name: rows.repeat_interleave(n, dim=0) for name, rows in inputs.items()}
    output = model.generate(**inputs, **options)[:, inputs["input_ids"].shape[1] :]
    ends = ends_of(model)
    return [_up_to_the_end(tokens, ends) for tokens in output.tolist()]


def ends_of(model: Any) -> list[int]:
    """The tokens with which the model ends a reply."""
    ends = model.generation_config.eos_token_id
    return [] if ends is None else [ends] if isinstance(ends, int) else list(ends)


def _up_to_the_end(tokens: list[int], ends: list[int]) -> list[int]:
    """Without the padding behind the token that ends the reply."""
    last = next((i for i, token in enumerate(tokens) if token in ends), len(tokens))
    return tokens[: last + 1]


def read_once(model: Any, inputs: Inputs, n: int) -> Any:
    """The cache of the prompts without their last token, read once and repeated n times.

    None where the model remembers in another way than by keys and values of each token.
    """
    mask = inputs["attention_mask"][:, :-1]
    output = model(
        input_ids=inputs["input_ids"][:, :-1],
        attention_mask=mask,
        position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
        use_cache=True,
        logits_to_keep=1,
    )
    cache = getattr(output, "past_key_values", None)
    if any(type(layer) not in PLAIN_LAYERS for layer in getattr(cache, "layers", [None])):
        return None
    cache.batch_repeat_interleave(n)
    return cache


def stream(model: Any, tokenizer: Any, inputs: Inputs, options: dict[str, Any]) -> Iterator[str]:
    """One reply, piece by piece as it is written; a reader that goes away stops the writing."""
    streamer = TextIteratorStreamer(
        tokenizer, skip_prompt=True, skip_special_tokens=True, timeout=300
    )
    left = Event()
    options = options | {
        "streamer": streamer,
        "stopping_criteria": StoppingCriteriaList([_StopWhen(left)]),
    }
    failures: list[Exception] = []

    def write() -> None:
        try:
            model.generate(**inputs, **options)
        except Exception as error:  # handed over to the reader below
            failures.append(error)
            streamer.end()

    worker = Thread(target=write, daemon=True)
    worker.start()
    try:
        yield from streamer
    finally:
        left.set()
        worker.join()
    if failures:
        raise failures[0]


class _StopWhen(StoppingCriteria):
    """Stops all sequences once the event is set."""

    def __init__(self, event: Event) -> None:
        self._event = event

    def __call__(self, input_ids: Any, scores: Any, **options: Any) -> torch.Tensor:
        return torch.full((len(input_ids),), self._event.is_set(), device=input_ids.device)
