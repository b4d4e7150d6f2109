"""Online RL: GRPO of trl with the APC score as the reward, on the player's own adapter."""

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from apc_cli.config import Grpo
from apc_cli.errors import ConfigError
from apc_cli.models import ranks
from apc_cli.models.judging.scorer import Scorer
from apc_cli.models.playing.role_player import RolePlayer, Sampling, clean
from apc_cli.models.training import trainers
from apc_cli.models.training.rollouts import Rollouts
from apc_cli.progress import Progress
from apc_cli.records import Message


@dataclass(frozen=True)
class Prompt:
    """A conversation to answer, and the query in it as the judges are shown it."""

    conversation: Sequence[Message]
    judged_as: str


class ApcReward:
    """The reward of a reply: its APC, less a penalty where it is flawed.

    GRPO compares replies to one prompt, for which APC and ΔAPC differ by a constant: they teach the
    same.
    """

    __name__ = "apc"  # what trl calls the reward in its logs

    def __init__(
        self,
        scorer: Scorer,
        character: str,
        statements: Sequence[str],
        is_flawed: Any,
        penalty: float,
    ) -> None:
        """`is_flawed` tells of a reply whether it reads badly."""
        self._scorer, self._character, self._statements = scorer, character, tuple(statements)
        self._is_flawed, self._penalty = is_flawed, penalty

    def __call__(
        self, completions: Sequence[Sequence[Message]], judged_as: Sequence[str], **others: Any
    ) -> list[float]:
        """One reward a completion, in expected satisfied constraints."""
        replies = [clean(turns[-1]["content"], self._character) for turns in completions]
        asked = list(zip(judged_as, replies, strict=True))
        scores = self._scorer.score_all(self._character, self._statements, asked)
        return [
            score.apc - self._penalty * self._is_flawed(reply)
            for score, reply in zip(scores, replies, strict=True)
        ]


def reinforce(
    player: RolePlayer,
    prompts: Sequence[Prompt],
    reward: ApcReward,
    settings: Grpo,
    sampling: Sampling,
    checkpoints: Path,
    progress: Progress,
) -> list[float]:
    """Trains the player's adapter in place; the adapter as it came is the reference of the KL.

    Processes share out the replies of a step: each samples, scores and learns from its part.

    Returns:
        The mean reward of each step, over the replies of all processes.

    Raises:
        ConfigError: there are fewer prompts than one step takes, or processes cannot share a step.
    """
    if len(prompts) < settings.queries_per_step:
        raise ConfigError(
            f"{len(prompts)} queries are too few for one step of {settings.queries_per_step}",
            "lower grpo.queries_per_step",
        )
    rows = [
        {"prompt": player.template_messages(p.conversation), "judged_as": p.judged_as}
        for p in _in_order(prompts, settings, sampling.seed)
    ]
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # of `rollout_func`
    trainer = GRPOTrainer(
        model=player.model,
        rollout_func=Rollouts(player, sampling),
        reward_funcs=reward,
        args=_arguments(
            player, settings, sampling, checkpoints, len(prompts) // settings.queries_per_step
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=player.tokenizer,
    )
    try:
        trainers.run(trainer, checkpoints, "GRPO", progress)
    finally:
        if "ref" in player.model.peft_config:
            player.model.delete_adapter("ref")  # trl's frozen copy of the adapter as it came
    return [round(e["reward"], 4) for e in trainer.state.log_history if "reward" in e]


def _in_order(prompts: Sequence[Prompt], settings: Grpo, seed: int) -> list[Prompt]:
    """All passes, each in an order of its own; what is left of a pass makes no whole step.

    trl's sampler would begin with the first order again when a halted run goes on.
    """
    draw = random.Random(f"grpo {seed}")
    whole = len(prompts) - len(prompts) % settings.queries_per_step
    return [p for _ in range(settings.epochs) for p in draw.sample(prompts, len(prompts))[:whole]]


def _arguments(
    player: RolePlayer, settings: Grpo, sampling: Sampling, checkpoints: Path, steps: int
) -> GRPOConfig:
    """`steps` are those of one pass, after which there is a checkpoint."""
    common = trainers.common_arguments(
        player, checkpoints, epochs=1, learning_rate=settings.learning_rate, seed=sampling.seed
    )
    common |= {"save_strategy": "steps", "save_steps": steps, "shuffle_dataset": False}
    common.pop("max_length")  # GRPO has none: prompts are never cut
    replies = ranks.share(settings.queries_per_step * settings.samples_per_query)
    micro = min(settings.micro_batch_size, replies)
    while replies % micro:
        micro -= 1
    return GRPOConfig(
        **common,
        beta=settings.beta,
        loss_type=settings.loss,
        num_generations=settings.samples_per_query,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=replies // micro,
        max_completion_length=sampling.max_new_tokens,
        temperature=sampling.temperature,
    )
