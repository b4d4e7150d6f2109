"""How likely a model finds given replies."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from peft import PeftModel
from torch.nn.utils.rnn import pad_sequence

from apc_cli.models.playing.sampling import Inputs, read_once


def mean_losses(
    model: Any, prompt: Inputs, replies: list[torch.Tensor], pad_token_id: int
) -> list[float]:
    """Mean NLL per token, in nats, of replies (token ids) to one prompt, which is read once.

    Empty replies get 0.
    """
    lengths = torch.tensor([len(row) for row in replies], device=model.device)
    if not lengths.any():
        return [0.0] * len(replies)
    answers = pad_sequence(replies, batch_first=True, padding_value=pad_token_id)
    said = torch.arange(answers.shape[1], device=answers.device) < lengths[:, None]
    cache = read_once(model, prompt, len(replies))
    ids = prompt["input_ids"] if cache is None else prompt["input_ids"][:, -1:]
    read = prompt["attention_mask"].expand(len(replies), -1)
    logits = model(
        input_ids=torch.cat([ids.expand(len(replies), -1), answers], dim=1),
        attention_mask=torch.cat([read, said.to(read.dtype)], dim=1),
        logits_to_keep=answers.shape[1] + 1,
        **({} if cache is None else {"past_key_values": cache}),
    ).logits
    log_probs = torch.log_softmax(logits[:, :-1].float(), dim=-1)
    losses = -log_probs.gather(-1, answers[..., None])[..., 0] * said
    return (losses.sum(1) / lengths.clamp(min=1)).tolist()


def without_adapter(model: Any) -> AbstractContextManager[None]:
    """The base model, for as long as the block lasts."""
    return model.disable_adapter() if isinstance(model, PeftModel) else nullcontext()
