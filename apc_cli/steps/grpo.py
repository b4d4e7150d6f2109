"""Online RL in place of preference pairs: replies are sampled, scored and learnt from at once."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from apc_cli.config import Dpo, Grpo, Policy
from apc_cli.histories import query_in_context
from apc_cli.models import ranks
from apc_cli.models.adapters import save_adapter
from apc_cli.models.playing.role_player import RolePlayer, Sampling
from apc_cli.models.training.reinforcement import ApcReward, Prompt, reinforce
from apc_cli.records import Message, Query, Summary
from apc_cli.reports.adapter_card import adapter_card
from apc_cli.reports.style import flaws

if TYPE_CHECKING:
    from apc_cli.models.judging.scorer import Scorer
    from apc_cli.progress import Progress
    from apc_cli.workspace import Workspace


def run(
    character: str,
    statements: Sequence[str],
    queries: Sequence[Query],
    conversation: Callable[[str], list[Message]],
    player: RolePlayer,
    reward: "Scorer",
    policy: Policy,
    settings: Grpo,
    lora: Dpo,
    seed: int,
    checkpoints: Path,
    workspace: "Workspace",
    progress: "Progress",
) -> Summary:
    """Writes adapter/, which plain peft loads, with its model card."""
    asked = [query.query for query in queries][: settings.max_queries]
    prompts = [Prompt(conversation(query), query_in_context(query)) for query in asked]
    rewards = reinforce(
        player,
        prompts,
        ApcReward(
            reward, character, statements,
            partial(_is_flawed, character, frozenset(lora.guards)), settings.flaw_penalty,
        ),
        settings,
        Sampling.of(policy, seed),
        checkpoints,
        progress,
    )  # fmt: skip
    if ranks.own():
        return Summary(len(asked))
    tenth = max(1, len(rewards) // 10)
    first, last = (sum(part) / tenth for part in (rewards[:tenth], rewards[-tenth:]))
    progress.say(f"mean reward of the first and the last tenth: {first:.3f} → {last:.3f}")
    with workspace.new_directory("adapter") as directory:
        save_adapter(player.model, directory, base=player.reference)
        player.tokenizer.save_pretrained(directory)
        card = adapter_card(
            character, player.reference, "GRPO", f"sampled replies to {len(asked)} queries, each",
            {"LoRA rank / alpha": f"{lora.lora_rank} / {lora.lora_alpha}",
             "replies a query": settings.samples_per_query, "processes": ranks.count(),
             "β (KL)": settings.beta,
             "epochs": settings.epochs, "learning rate": settings.learning_rate},
        )  # fmt: skip
        (directory / "README.md").write_text(card, encoding="utf-8")
    return Summary(len(asked), figures={"rewards": rewards, "processes": ranks.count()})


def _is_flawed(character: str, guards: frozenset[str], reply: str) -> bool:
    return bool(guards.intersection(flaws(reply, character)))
