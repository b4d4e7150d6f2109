"""Runs the stages: each with its rows, its settings and the models of the workshop."""

import shutil
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from apc_cli.conversations import conversation, shown_statements
from apc_cli.evaluators import evaluator_name
from apc_cli.models import ranks
from apc_cli.pipeline import Stage
from apc_cli.prompts import interview_questions
from apc_cli.records import (
    Experience,
    NliExample,
    PreferencePair,
    Query,
    RelevanceExample,
    Statement,
    Summary,
)
from apc_cli.stages import ROUND
from apc_cli.workshop import Workshop
from apc_cli.workspace import Workspace

if TYPE_CHECKING:
    from apc_cli.models.playing.role_player import RolePlayer
    from apc_cli.steps.train_discriminators import Labelled


Runner = Callable[[Workshop, str], Summary]
"""Runs a stage whose fingerprint it is given."""
_TOGETHER = {"warm-up", "build-dpo", "dpo", "grpo"}
"""Stages in which all processes of a run take part."""


def run_stage(shop: Workshop, stage: Stage, fingerprint: str) -> Summary:
    """Runs one stage; its artifacts are in the workspace afterwards."""
    name, _, number = stage.name.partition(ROUND)
    played = int(number or shop.character.dpo.rounds)
    runners: dict[str, Runner] = {
        "statements": _statements,
        "queries": _queries,
        "label-data": _label_data,
        "train-discriminators": _train_discriminators,
        "experience": _experience,
        "warm-up": _warm_up,
        "build-dpo": partial(_build_dpo, number=played),
        "dpo": partial(_dpo, stage.name, number=played),
        "grpo": _grpo,
        "evaluation": _evaluation,
    }
    run = runners[name]
    if name in _TOGETHER and ranks.count() > 1:
        run = partial(_alone, run) if _one_plays(shop, name) else partial(_in_step, run, stage.name)
    if ranks.own() or not shop.uses_llm:
        return run(shop, fingerprint)
    with shop.teaching.stage(stage.name) as account:
        summary = account.added_to(run(shop, fingerprint))
    shop.main.failed += summary.failed
    return summary


def _one_plays(shop: Workshop, name: str) -> bool:
    """Whether one process samples for all, since its model takes the GPUs of all."""
    return name == "build-dpo" and shop.character.policy.sharding == "full"


def _alone(run: Runner, shop: Workshop, fingerprint: str) -> Summary:
    """The first process runs a stage by itself; the others wait."""
    with ranks.by_itself():
        return run(shop, fingerprint)


def _in_step(run: Runner, stage: str, shop: Workshop, fingerprint: str) -> Summary:
    """All processes run a stage; none goes on before all have given their GPU's memory back."""
    from apc_cli.models import memory

    if not ranks.own():
        ranks.call(stage, fingerprint)
    summary = run(shop, fingerprint)
    memory.release()
    ranks.gathered(None)
    return summary


def tidy(shop: Workshop, stage: Stage) -> None:
    """Removes the checkpoints of a stage that is done."""
    for folder in shop.workspace.path("checkpoints").glob(f"{stage.name}-*"):
        shutil.rmtree(folder)


def _fresh_player(shop: Workshop) -> "RolePlayer":
    """The base model under an untrained adapter."""
    import torch

    from apc_cli.models.adapters import add_lora

    torch.manual_seed(shop.character.seed)
    player, dpo = shop.player(trainable=True), shop.character.dpo
    player.model = add_lora(
        player.model, rank=dpo.lora_rank, alpha=dpo.lora_alpha, task="CAUSAL_LM"
    )
    return player


def _statements(shop: Workshop, fingerprint: str) -> Summary:
    from apc_cli.steps import statements

    persona = shop.character.persona
    teacher = None if persona.statements else shop.teacher
    return statements.run(
        shop.character.character, shop.source, persona.protective, teacher, shop.workspace,
    )  # fmt: skip


def _queries(shop: Workshop, fingerprint: str) -> Summary:
    from apc_cli.steps import queries

    rows = shop.workspace.read_rows("statements.jsonl", Statement)
    count = shop.character.teacher.queries_per_statement
    return queries.run(shop.character.character, rows, count, shop.teacher, shop.workspace)


def _label_data(shop: Workshop, fingerprint: str) -> Summary:
    from apc_cli.steps import label_data

    settings = shop.character.teacher
    return label_data.run(
        shop.character.character, shop.workspace.read_rows("queries.jsonl", Query),
        settings.other_queries, settings.other_replies, shop.character.seed,
        shop.teacher, shop.workspace,
    )  # fmt: skip


def _train_discriminators(shop: Workshop, fingerprint: str) -> Summary:
    from apc_cli.steps import train_discriminators

    return train_discriminators.run(
        _labelled(shop.workspace),
        [_labelled(other) for other in shop.workspace.others("label-data")],
        shop.character.discriminators, shop.character.seed, shop.character.device,
        shop.workspace, shop.progress,
    )  # fmt: skip


def _labelled(workspace: Workspace) -> "Labelled":
    from apc_cli.steps.train_discriminators import Labelled

    return Labelled(
        workspace.character,
        workspace.read_rows("relevance.jsonl", RelevanceExample),
        workspace.read_rows("nli.jsonl", NliExample),
    )


def _experience(shop: Workshop, fingerprint: str) -> Summary:
    from apc_cli.steps import experience

    return experience.run(
        shop.character.character, shop.queries()[0], partial(_told, shop), shop.teacher,
        shop.workspace, shop.progress,
    )  # fmt: skip


def _told(shop: Workshop, query: Query) -> list[str]:
    """The statements that a faithful answer to the query tells."""
    from apc_cli.steps.experience import statements_to_tell

    shown = shown_statements(shop, query.query) or shop.statements()
    relevance = shop.reward.relevance(shop.character.character, shown, query.query)
    settings = shop.character.warm_up
    return statements_to_tell(
        query.statement, shown, relevance.tolist(),
        settings.min_statements, settings.max_statements,
    )  # fmt: skip


def _warm_up(shop: Workshop, fingerprint: str) -> Summary:
    from apc_cli.steps import warm_up

    player = _fresh_player(shop)
    return warm_up.run(
        player, shop.workspace.read_rows("experience.jsonl", Experience),
        partial(conversation, shop), shop.character.warm_up, shop.character.sft_epochs,
        shop.character.seed, player.room_for_prompts(shop.character.policy),
        shop.workspace.path(f"checkpoints/warm-up-{fingerprint[:12]}"),
        shop.workspace, shop.progress,
    )  # fmt: skip


def _build_dpo(shop: Workshop, fingerprint: str, number: int) -> Summary:
    from apc_cli.steps import build_dpo

    start, place = _round(shop, number)
    queries, most = shop.queries()[0], shop.character.dpo.max_queries
    turned = (number - 1) * most % max(1, len(queries))
    return build_dpo.run(
        shop.character.character, shop.statements(), queries[turned:] + queries[:turned],
        partial(conversation, shop), shop.player(start), shop.reward, shop.character.policy,
        shop.character.dpo, shop.character.seed + 7_919 * (number - 1), fingerprint, place,
        shop.progress,
    )  # fmt: skip


def _dpo(stage: str, shop: Workshop, fingerprint: str, number: int) -> Summary:
    from apc_cli.steps import train

    start, place = _round(shop, number)
    player = shop.player(start, trainable=True) if start else _fresh_player(shop)
    return train.run(
        shop.character.character, player, place.read_rows("pairs.jsonl", PreferencePair),
        shop.character.dpo, number, shop.character.seed,
        shop.workspace.path(f"checkpoints/{stage}-{fingerprint[:12]}"), place, shop.progress,
    )  # fmt: skip


def _grpo(shop: Workshop, fingerprint: str) -> Summary:
    from apc_cli.steps import grpo

    start = shop.start
    player = shop.player(start, trainable=True) if start else _fresh_player(shop)
    place = f"checkpoints/grpo-{fingerprint[:12]}-{ranks.count()}"  # others draw other replies
    return grpo.run(
        shop.character.character, shop.statements(), shop.queries()[0], partial(conversation, shop),
        player, shop.reward, shop.character.policy, shop.character.grpo, shop.character.dpo,
        shop.character.seed, shop.workspace.path(place), shop.workspace, shop.progress,
    )  # fmt: skip


def _round(shop: Workshop, number: int) -> tuple[str | None, Workspace]:
    """(the adapter that a round starts from, where its artifacts go)."""
    start = shop.start if number == 1 else f"rounds/{number - 1}/adapter"
    if number == shop.character.dpo.rounds:
        return start, shop.workspace
    place = Workspace(shop.workspace.path("rounds"), str(number))
    place.create()
    return start, place


def _evaluation(shop: Workshop, fingerprint: str) -> Summary:
    from apc_cli.steps import evaluate

    players: dict[str, Callable[[], Any]] = {"before": lambda: shop.player(shop.start)}
    if shop.start:
        players = {"base": shop.player, **players}
    players["after"] = lambda: shop.player("adapter")
    held_out = [query.query for query in shop.queries()[1]]
    return evaluate.run(
        shop.character.character, shop.statements(),
        [*interview_questions(shop.character.language), *held_out], partial(conversation, shop),
        players, shop.evaluator, evaluator_name(shop.character), shop.algorithm,
        shop.character.policy, shop.character.evaluation, shop.character.seed, shop.workspace,
        shop.progress,
    )  # fmt: skip
