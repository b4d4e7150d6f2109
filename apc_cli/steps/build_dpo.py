"""Queries become sampled, scored replies, and those become preference pairs (paper section 4.3)."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from itertools import compress
from typing import TYPE_CHECKING, Any

from apc_cli.config import Dpo, Policy
from apc_cli.errors import DataError
from apc_cli.histories import earlier_turns, fitting, query_in_context
from apc_cli.models import ranks
from apc_cli.models.playing.role_player import RolePlayer, Sampling, clean
from apc_cli.records import Message, PreferencePair, Query, SampledReplies, Summary
from apc_cli.reports.gaps import pair_figures
from apc_cli.reports.style import flaws, length
from apc_cli.workspace import ItemLog

if TYPE_CHECKING:
    from apc_cli.models.judging.scorer import Scorer
    from apc_cli.progress import Progress
    from apc_cli.workspace import Workspace

ScoredReply = tuple[float, str]
Conversation = Callable[[str, Sequence[Message]], list[Message]]
"""Makes what the role-play model is shown for a query after a history."""

_OPENING = "\0earlier turn\0"
"""Marks, in the log, a reply that is a turn before a query and no candidate."""
_OPENING_SEED = 500_009


def run(
    character: str,
    statements: Sequence[str],
    queries: Sequence[Query],
    conversation: Conversation,
    player: RolePlayer,
    reward: "Scorer",
    policy: Policy,
    settings: Dpo,
    seed: int,
    fingerprint: str,
    workspace: "Workspace",
    progress: "Progress",
) -> Summary:
    """Writes replies.jsonl and pairs.jsonl; a killed run goes on after its last finished query."""
    texts = [query.query for query in queries][: settings.max_queries]
    log = ItemLog(workspace.path(f"replies.partial{ranks.suffix()}.jsonl"), fingerprint)
    log.items.update(ranks.first(log.items))
    histories = _histories(
        character, texts, conversation, player, policy, settings, seed, log, progress
    )
    n = settings.samples_per_query
    step = player.conversations_at_once(policy.replies_at_once, n, len(texts))

    def scored(start: int) -> list[tuple[str, Any]]:
        batch = texts[start : start + step]
        found = _sample(
            character, statements, [(query, histories[query]) for query in batch],
            _composer(conversation, player, policy), player, reward, policy, settings,
            Sampling.of(policy, seed + start),
        )  # fmt: skip
        return [(item.query, asdict(item)) for item in found]

    _finish("Sampling and scoring replies", texts, step, log, scored, progress)
    if ranks.own():
        log.close()
        return Summary(len(texts))
    sampled = [SampledReplies(**log.items[query]) for query in texts]
    dropped: Counter[str] = Counter()
    pairs = [
        pair
        for item in sampled
        for pair in choose_pairs(character, item, player, settings, dropped)
    ]
    if not pairs:
        raise DataError(
            f"none of {len(sampled)} queries gave a preference pair: {dict(dropped)}",
            "lower dpo.min_gap, or raise dpo.samples_per_query",
        )
    workspace.write_rows("replies.jsonl", sampled)
    workspace.write_rows("pairs.jsonl", pairs)
    log.close()
    return Summary(len(pairs), dict(dropped), pair_figures(pairs))


def _finish(
    title: str,
    keys: Sequence[str],
    step: int,
    log: ItemLog,
    work: Callable[[int], list[tuple[str, Any]]],
    progress: "Progress",
) -> None:
    """Works on the batches of `step` keys that the log lacks, shared out among all processes."""
    starts = range(0, len(keys), step)
    lacking = [s for s in starts if any(key not in log.items for key in keys[s : s + step])]
    lacking = ranks.first(lacking)
    with progress.task(title, len(starts)) as task:
        task.advance(len(starts) - len(lacking))
        for begin in range(0, len(lacking), ranks.count()):
            batches = lacking[begin : begin + ranks.count()]
            mine = work(batches[ranks.own()]) if ranks.own() < len(batches) else []
            for key, value in [item for found in ranks.gathered(mine) for item in found]:
                log.add(key, value)
            task.advance(len(batches))


def _sample(
    character: str,
    statements: Sequence[str],
    asked: Sequence[tuple[str, Sequence[Message]]],
    compose: Conversation,
    player: RolePlayer,
    reward: "Scorer",
    policy: Policy,
    settings: Dpo,
    sampling: Sampling,
) -> list[SampledReplies]:
    prompts = [compose(query, history) for query, history in asked]
    n = settings.samples_per_query
    sampled = player.sample(prompts, n, sampling, policy.replies_at_once)
    replies = [[clean(reply, character) for reply in group] for group in sampled]
    judged_as = [query_in_context(query, history) for query, history in asked]
    flat = [(q, reply) for q, group in zip(judged_as, replies, strict=True) for reply in group]
    scores = iter(reward.score_all(character, statements, flat))
    return [
        SampledReplies(
            query,
            prompt,
            group,
            [next(scores).apc for _ in group],
            [player.fills(reply, sampling.max_new_tokens) for reply in group],
        )  # fmt: skip
        for (query, _), prompt, group in zip(asked, prompts, replies, strict=True)
    ]


def _composer(conversation: Conversation, player: RolePlayer, policy: Policy) -> Conversation:
    """Makes the conversation with the newest turns that fit into the model."""
    room = player.room_for_prompts(policy)

    def compose(query: str, history: Sequence[Message]) -> list[Message]:
        return fitting(partial(conversation, query), history, player.count_tokens, room)

    return compose


def _histories(
    character: str,
    queries: Sequence[str],
    conversation: Conversation,
    player: RolePlayer,
    policy: Policy,
    settings: Dpo,
    seed: int,
    log: ItemLog,
    progress: "Progress",
) -> dict[str, list[Message]]:
    """The turns before each query: other queries with what the model itself replies to them."""
    if not settings.history_turns:
        return {query: [] for query in queries}
    step = player.conversations_at_once(policy.replies_at_once, 1, len(queries))

    def opened(start: int) -> list[tuple[str, Any]]:
        batch = queries[start : start + step]
        sampling = Sampling.of(policy, seed + _OPENING_SEED + start)
        prompts = [conversation(query, ()) for query in batch]
        found = player.sample(prompts, 1, sampling, policy.replies_at_once)
        return [
            (_OPENING + query, clean(reply, character))
            for query, [reply] in zip(batch, found, strict=True)
        ]

    keys = [_OPENING + query for query in queries]
    _finish("Sampling earlier turns", keys, step, log, opened, progress)
    replies = {query: log.items[_OPENING + query] for query in queries}
    sound = [(query, reply) for query, reply in replies.items() if not flaws(reply, character)]
    return {query: earlier_turns(query, sound, settings.history_turns, seed) for query in queries}


def choose_pairs(
    character: str,
    item: SampledReplies,
    player: RolePlayer,
    settings: Dpo,
    dropped: Counter[str],
) -> list[PreferencePair]:
    """The best sound reply against the worst one, then the next best and the next worst, and so on.

    No reply is used twice. A reply that reads badly is never chosen, nor one that was cut off
    unless all were, and they need not be much less faithful to be rejected: any other scores lower
    by more than the gap. `flaw_penalty` is taken off a bad one's score here, not in the pair.
    For a query without any pair, `dropped` counts why its best has none.
    """
    guards = set(settings.guards)
    apc = dict(zip(item.responses, item.scores, strict=True))
    flawed = {reply for reply in apc if guards.intersection(flaws(reply, character))}
    standing = {r: score - settings.flaw_penalty * (r in flawed) for r, score in apc.items()}
    left = sorted(((score, r) for r, score in standing.items()), key=lambda r: (-r[0], r[1]))
    unfinished = flawed.union(compress(item.responses, item.cut))
    if any(reply not in unfinished for _, reply in left):
        flawed = unfinished
    pairs: list[PreferencePair] = []
    problems: list[str] = []
    for best in [reply for reply in left if reply[1] not in flawed]:
        if len(pairs) == settings.pairs_per_query:
            break
        if best not in left:
            continue
        worst = _rejected_for(best, item.prompt, left, flawed, player, settings)
        if isinstance(worst, str):
            problems.append(worst)
            continue
        pairs.append(
            PreferencePair(
                item.prompt, _turn(best[1]), _turn(worst[1]), apc[best[1]], apc[worst[1]]
            )
        )
        left = [reply for reply in left if reply not in (best, worst)]
    if not pairs:
        dropped[problems[0] if problems else "no sound reply"] += 1
    return pairs


def _rejected_for(
    best: ScoredReply,
    prompt: Sequence[Message],
    ranked: Sequence[ScoredReply],
    flawed: set[str],
    player: RolePlayer,
    settings: Dpo,
) -> ScoredReply | str:
    """The worst of the replies (from best to worst) to reject for this one, or why none is."""
    gaps = [(reply, best[0] - reply[0]) for reply in reversed(ranked) if reply[1]]
    candidates = [r for r, gap in gaps if gap > (0 if r[1] in flawed else settings.min_gap)]
    if not candidates:
        return "gap too small"
    candidates = [r for r in candidates if _like_length(best[1], r[1], settings.max_length_ratio)]
    if not candidates:
        return "lengths too different"
    if settings.max_nll is not None:
        [nll] = player.negative_log_likelihood([prompt], [best[1]])
        if nll > settings.max_nll:
            return "chosen reply not fluent"
    return candidates[0]


def _like_length(one: str, other: str, ratio: float | None) -> bool:
    if ratio is None:
        return True
    short, long = sorted((length(one) + 1, length(other) + 1))
    return long <= ratio * short


def _turn(reply: str) -> list[Message]:
    return [{"role": "assistant", "content": reply}]
