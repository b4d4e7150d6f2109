"""The role-play model before and after training, measured by the evaluator (paper section 5)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from apc_cli.config import Evaluation, Policy
from apc_cli.models.playing.role_player import RolePlayer, Sampling, clean
from apc_cli.records import Message, Score, Summary
from apc_cli.reports.statistics import bootstrap_interval, paired_gain
from apc_cli.reports.style import FLAWS, distinct_2, flaws, length

if TYPE_CHECKING:
    from apc_cli.models.judging.scorer import Scorer
    from apc_cli.progress import Progress
    from apc_cli.workspace import Workspace


@dataclass(frozen=True)
class Answers:
    """A system's replies to every query, their scores and their NLL under the base model."""

    replies: list[list[str]]
    scores: list[list[Score]]
    nll: list[list[float]]


def run(
    character: str,
    statements: Sequence[str],
    queries: Sequence[str],
    conversation: Callable[[str], list[Message]],
    players: Mapping[str, Callable[[], RolePlayer]],
    evaluator: "Scorer",
    evaluator_name: dict[str, str],
    algorithm: str,
    policy: Policy,
    settings: Evaluation,
    seed: int,
    workspace: "Workspace",
    progress: "Progress",
) -> Summary:
    """Writes evaluation.json; `players` are loaded one after another, from first to last trained.

    The last but one is `before`, the last is `after`, an earlier one keeps its own name.
    """
    prompts = [conversation(query) for query in queries]
    answers: dict[str, Answers] = {}
    with progress.task("Evaluating", len(players) * len(queries)) as task:
        for name, load in players.items():
            player = load()
            sampling = Sampling.of(policy, seed + 1_000_003)
            sampled = player.sample(
                prompts, settings.samples_per_query, sampling, policy.replies_at_once,
                task.advance,
            )  # fmt: skip
            replies = [[clean(reply, character) for reply in group] for group in sampled]
            answers[name] = _judge(
                character, statements, queries, prompts, replies, player, evaluator
            )
    report: dict[str, Any] = {
        name: _figures(character, found, settings.resamples, seed)
        for name, found in answers.items()
    }
    means = {name: _query_means(found) for name, found in answers.items()}
    gain = paired_gain(means["before"], means["after"], settings.resamples, seed)
    report["gain"] = asdict(gain)
    report |= {"evaluator": evaluator_name, "queries": len(queries), "algorithm": algorithm}
    report["samples"] = [
        {"query": query} | {name: found.replies[i][0] for name, found in answers.items()}
        for i, query in enumerate(queries)
    ]
    workspace.write_json("evaluation.json", report)
    return Summary(len(queries), figures=report)


def _judge(
    character: str,
    statements: Sequence[str],
    queries: Sequence[str],
    prompts: Sequence[list[Message]],
    replies: list[list[str]],
    player: RolePlayer,
    evaluator: "Scorer",
) -> Answers:
    n = len(replies[0])
    flat = [(q, reply) for q, group in zip(queries, replies, strict=True) for reply in group]
    scores = evaluator.score_all(character, statements, flat)
    conversations = [prompt for prompt in prompts for _ in range(n)]
    nll = player.negative_log_likelihood(conversations, [reply for _, reply in flat])
    return Answers(replies, _grouped(scores, n), _grouped(nll, n))


def _grouped(values: Sequence[Any], n: int) -> list[list[Any]]:
    return [list(values[i : i + n]) for i in range(0, len(values), n)]


def _query_means(answers: Answers) -> list[float]:
    """Mean ΔAPC of each query's replies."""
    return [sum(s.delta for s in group) / len(group) for group in answers.scores]


def _figures(character: str, answers: Answers, resamples: int, seed: int) -> dict[str, Any]:
    replies = [reply for group in answers.replies for reply in group]
    scores = [score for group in answers.scores for score in group]
    nll = [value for group in answers.nll for value in group]
    problems = [flaws(reply, character) for reply in replies]

    def mean(values: Sequence[float]) -> float:
        return round(sum(values) / len(values), 4)

    shares = {kind: mean([float(kind in found) for found in problems]) for kind in FLAWS}
    return {
        "delta": mean([s.delta for s in scores]),
        "ci95": [round(x, 4) for x in bootstrap_interval(_query_means(answers), resamples, seed)],
        "active_reward": mean([s.active_reward for s in scores]),
        "passive_penalty": mean([s.passive_penalty for s in scores]),
        "apc": mean([s.apc for s in scores]),
        "words": mean([length(reply) for reply in replies]),
        "nll_per_token": mean(nll),
        "distinct_2": round(distinct_2(replies), 4),
        "share": shares,
    }
