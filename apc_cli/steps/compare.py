"""Several systems answer the same queries and are judged: the table of the paper's section 5.

A system is a way of prompting at a stage of training. What each answered, and how that was judged,
is kept under the hash of all that decides it, so that a killed or repeated run does only the rest.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any

from apc_cli.config import Policy
from apc_cli.errors import DataError
from apc_cli.models.playing.role_player import RolePlayer, Sampling, clean
from apc_cli.models.references import expanded, local_directories, outline
from apc_cli.records import JudgedReply, Message, Score, Violation
from apc_cli.workspace import fingerprint

if TYPE_CHECKING:
    from apc_cli.models.judging.scorer import Scorer
    from apc_cli.progress import Progress
    from apc_cli.workspace import Workspace

EVALUATION_SEED = 1_000_003
"""Added to the character's seed: replies that are measured are not those that were trained on."""


@dataclass(frozen=True)
class System:
    """One row of the table.

    `adapter` is the content hash of the adapter that `load` puts on the base model, if any.
    """

    name: str
    adapter: str | None
    load: Callable[[], RolePlayer]
    conversation: Callable[[str], list[Message]]


@dataclass(frozen=True)
class AskedQuery:
    """A query and where it is from: the paper's `interview`, or `held out` from training."""

    query: str
    source: str


@dataclass(frozen=True)
class _Answers:
    """What a system answered to one query, with the NLL under the base model of each reply.

    No NLL where the model is behind a server.
    """

    query: str
    replies: Sequence[str]
    nll: Sequence[float] | None


def run(
    character: str,
    statements: Sequence[str],
    queries: Sequence[AskedQuery],
    systems: Sequence[System],
    evaluator: Callable[[], "Scorer"],
    evaluator_facts: dict[str, Any],
    policy: Policy,
    samples: int,
    seed: int,
    workspace: "Workspace",
    progress: "Progress",
) -> dict[str, list[JudgedReply]]:
    """The judged replies of each system, query by query, `samples` each.

    Raises:
        DataError: a system's prompt is longer than its model can read.
    """
    keeper = _Keeper(workspace)
    sampling = Sampling.of(policy, seed + EVALUATION_SEED)
    found: dict[str, list[JudgedReply]] = {}
    loaded = _OnePlayer()
    local = local_directories(policy.model) if policy.backend == "transformers" else []
    files = {"files": [outline(expanded(place)) for place in local]} if local else {}
    with progress.task("Comparing", len(systems) * len(queries)) as task:
        for system in systems:
            prompts = [system.conversation(asked.query) for asked in queries]
            facts = {
                "prompts": prompts, "adapter": system.adapter, "model": policy.model,
                "quantization": policy.quantization, "batch": policy.batch_size,
                "server": policy.base_url,
                "sampling": asdict(sampling), "samples": samples, "character": character,
                **files,
            }  # fmt: skip
            answers = keeper.get(
                "answers", facts, _Answers,
                lambda system=system, prompts=prompts: _answer(
                    character, system.name, queries, prompts, loaded.get(system), sampling,
                    samples, policy.replies_at_once,
                ),
            )  # fmt: skip
            facts = {
                "answers": [asdict(row) for row in answers], "statements": statements,
                "evaluator": evaluator_facts, "character": character,
                "queries": [asdict(asked) for asked in queries],
            }  # fmt: skip
            found[system.name] = keeper.get(
                "judged", facts, JudgedReply,
                lambda answers=answers: list(
                    _judge(character, statements, queries, answers, evaluator())
                ),
            )  # fmt: skip
            task.advance(len(queries), system.name)
    return found


class _OnePlayer:
    """Keeps the last player only: systems that follow each other often share it."""

    def __init__(self) -> None:
        self._adapter: str | None = None
        self._player: RolePlayer | None = None

    def get(self, system: System) -> RolePlayer:
        if self._player is None or self._adapter != system.adapter:
            self._player = None  # frees it before the next one is loaded
            self._player, self._adapter = system.load(), system.adapter
        return self._player


class _Keeper:
    """Rows on disk under the hash of what decides them."""

    def __init__(self, workspace: "Workspace") -> None:
        self._workspace = workspace
        workspace.path("reports/rows").mkdir(parents=True, exist_ok=True)

    def get(
        self, kind: str, facts: dict[str, Any], record: type, make: Callable[[], list[Any]]
    ) -> list[Any]:
        name = f"reports/rows/{kind}-{fingerprint(facts)[:24]}.jsonl"
        if not self._workspace.path(name).exists():
            self._workspace.write_rows(name, make())
        return self._workspace.read_rows(name, record)


def _answer(
    character: str,
    name: str,
    queries: Sequence[AskedQuery],
    prompts: Sequence[list[Message]],
    player: RolePlayer,
    sampling: Sampling,
    samples: int,
    batch_size: int | None,
) -> list[_Answers]:
    _check_lengths(name, prompts, player, sampling.max_new_tokens)
    sampled = player.sample(prompts, samples, sampling, batch_size)
    replies = [[clean(reply, character) for reply in group] for group in sampled]
    if not player.has_likelihoods:
        return [
            _Answers(asked.query, group, None)
            for asked, group in zip(queries, replies, strict=True)
        ]
    repeated = [prompt for prompt in prompts for _ in range(samples)]
    nll = iter(player.negative_log_likelihood(repeated, list(chain(*replies))))
    return [
        _Answers(asked.query, group, [next(nll) for _ in group])
        for asked, group in zip(queries, replies, strict=True)
    ]


def _check_lengths(
    name: str, prompts: Sequence[list[Message]], player: RolePlayer, new: int
) -> None:
    longest, room = max(map(player.count_tokens, prompts)) + new, player.context_length
    if room is not None and longest > room:
        raise DataError(
            f"{name}: a prompt and its reply take {longest} tokens, the model reads {room}",
            "leave that method out of --methods, or use a model with a longer context",
        )


def _judge(
    character: str,
    statements: Sequence[str],
    queries: Sequence[AskedQuery],
    answers: Sequence[_Answers],
    evaluator: "Scorer",
) -> Iterator[JudgedReply]:
    flat = [(row.query, reply) for row in answers for reply in row.replies]
    scores = iter(evaluator.score_all(character, statements, flat))
    for asked, row in zip(queries, answers, strict=True):
        for reply, nll in zip(row.replies, row.nll or repeat(None, len(row.replies)), strict=True):
            score = next(scores)
            yield JudgedReply(
                query=row.query,
                source=asked.source,
                reply=reply,
                nll=nll,
                apc=score.apc,
                active_reward=score.active_reward,
                passive_penalty=score.passive_penalty,
                violations=[asdict(found) for found in _violations(score)],
            )


def _violations(score: Score) -> Iterator[Violation]:
    """A violation costs what the statement falls short of one satisfied constraint."""
    for constraint in score.constraints:
        if constraint.violation:
            cost = round(1 - constraint.satisfaction, 6)
            yield Violation(constraint.statement, constraint.violation, cost)
