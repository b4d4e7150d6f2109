"""Replies that GRPO learns from, sampled as everything else samples.

trl would sample by `generate` alone; a role-player is many times as fast on a GPU, and what it
draws hangs on the seed and the step, so that a halted run draws the same when it goes on.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from math import gcd
from typing import Any

from apc_cli.models import ranks
from apc_cli.models.playing.role_player import RolePlayer
from apc_cli.models.playing.sampling import Sampling
from apc_cli.records import Message


class Rollouts:
    """A `rollout_func` for trl: from conversations, token ids of prompts and replies."""

    def __init__(self, player: RolePlayer, sampling: Sampling) -> None:
        self._player, self._sampling = player, sampling

    def __call__(self, prompts: Sequence[Sequence[Message]], trainer: Any) -> dict[str, Any]:
        """A reply to each prompt; the same prompts stand one after another, and are read once.

        Processes that share a step draw differently, as do steps.
        """
        groups = [(prompt, len(list(same))) for prompt, same in groupby(prompts)]
        n = gcd(*(count for _, count in groups))
        asked = [prompt for prompt, count in groups for _ in range(count // n)]
        draws = trainer.state.global_step * ranks.count() + ranks.own()
        sampling = replace(self._sampling, seed=self._sampling.seed + draws * len(prompts))
        with _at_rest(self._player.model):
            replies = self._player.sample_tokens(asked, n, sampling, batch_size=len(prompts))
        return {
            "prompt_ids": self._player.prompt_tokens(prompts),
            "completion_ids": [tokens for one in replies for tokens in one],
            "logprobs": None,  # of use to trl where another program samples
        }


@contextmanager
def _at_rest(model: Any) -> Iterator[None]:
    """Not in training while it is open: nothing is recomputed, and keys and values are kept."""
    model.eval()
    try:
        yield
    finally:
        model.train()
