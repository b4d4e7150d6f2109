"""Where shards of rows are scored: in this process or in several; ray_engine.py has clusters.

All give the same scores to the last bit: a shard is scored from nothing, and shards are fixed by
the order of the rows.
"""

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from apc_cli.errors import ApcError, ConfigError
from apc_cli.histories import query_in_context
from apc_cli.models.devices import pick_device
from apc_cli.models.judging.scorer import Scorer
from apc_cli.records import Item

if TYPE_CHECKING:
    from apc_cli.models.llm.llm_scorer import LlmScorer

Shard = Sequence[Item]
Scored = tuple[list[dict[str, Any]], int]
"""The rows of a shard with their scores, and how many inputs were too long for the models."""


_Given, _Made = TypeVar("_Given"), TypeVar("_Made")


@dataclass(frozen=True)
class Recipe:
    """All that a process needs to score shards as any other does."""

    relevance: str
    nli: str
    language: str
    explain: bool
    cache_before: float
    nearest: float = 1.0
    weights: tuple[tuple[str, float], ...] = ()

    def scorer(self, device: str) -> Scorer:
        """The pair on a device."""
        return Scorer.load(
            relevance=self.relevance, nli=self.nli, language=self.language, device=device,
            cached=True, cache_before=self.cache_before, nearest=self.nearest,
            weights=dict(self.weights),
        )  # fmt: skip


def score_shard(scorer: "Scorer | LlmScorer", shard: Shard, explain: bool) -> Scored:
    """Each row with its score or its error, one batch for all rows of the same persona."""
    scorer, before = scorer.for_shard(), scorer.truncated
    rows = [dict(item.row) for item in shard]
    groups: dict[tuple[str, tuple[str, ...]], list[int]] = {}
    for index, item in enumerate(shard):
        if item.error is not None:
            rows[index]["error"] = item.error
        else:
            groups.setdefault((item.character, item.statements), []).append(index)
    for (who, statements), members in groups.items():
        replies = [_judged(rows[i]) for i in members]
        for i, score in zip(members, scorer.score_all(who, statements, replies), strict=True):
            rows[i] |= score.row(explain=explain)
    return rows, scorer.truncated - before


def _judged(row: dict[str, Any]) -> tuple[str, str]:
    """The query as judges are shown it, and the reply."""
    return query_in_context(row["query"], row.get("history") or ()), row["response"]


def in_process(
    recipe: Recipe, device: str, threads: int | None = None
) -> Callable[[Iterable[Shard]], Iterator[Scored]]:
    """One model in this process; on a GPU, one shard is tokenised while another is judged."""
    scorer = recipe.scorer(device)
    threads = threads or _threads(pick_device(device).type)
    if threads == 1:
        return one_by_one(scorer, recipe.explain)

    def run(shards: Iterable[Shard]) -> Iterator[Scored]:
        with ThreadPoolExecutor(threads) as pool:
            work = partial(score_shard, scorer, explain=recipe.explain)
            seen = scorer.truncated  # what each shard counted includes the shard beside it
            for rows, _ in in_order(pool, work, shards, threads + 1):
                now = scorer.truncated
                yield rows, now - seen
                seen = now

    return run


def _threads(kind: str) -> int:
    """How many shards a process has under way, by the kind of its device."""
    return 2 if kind == "cuda" else 1


def load(kind: str) -> int:
    """How many shards a process is given at once: on a GPU, where it waits between loads, some."""
    return 4 if kind == "cuda" else 1


def one_by_one(
    scorer: "Scorer | LlmScorer", explain: bool
) -> Callable[[Iterable[Shard]], Iterator[Scored]]:
    """One shard after another, by a scorer that is there."""
    return lambda shards: (score_shard(scorer, shard, explain) for shard in shards)


def gpus(count: int) -> list[str]:
    """The first `count` GPUs of this machine.

    Raises:
        ConfigError: there are fewer.
    """
    there = torch.cuda.device_count()
    if count > there:
        raise ConfigError(f"--gpus {count}: this machine has {there}", "give fewer, or --workers")
    return [f"cuda:{number}" for number in range(count)]


def in_processes(
    recipe: Recipe, devices: Sequence[str]
) -> Callable[[Iterable[Shard]], Iterator[Scored]]:
    """One process for each of `devices`."""

    def run(shards: Iterable[Shard]) -> Iterator[Scored]:
        context = multiprocessing.get_context("spawn")
        free = context.SimpleQueue()
        for device in devices:
            free.put(device)
        cores = max(1, (os.cpu_count() or 1) // len(devices))
        start = (recipe, free, cores)
        pool = ProcessPoolExecutor(len(devices), context, _start_worker, start)
        loads = _chunks(shards, load(torch.device(devices[0]).type))
        try:
            for scored in in_order(pool, _work, loads, 3 * len(devices)):
                yield from scored
        except BrokenProcessPool:
            raise ApcError(
                "a scoring process died", "out of memory? give fewer --workers or a smaller model"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)

    return run


def in_order(
    pool: Executor, work: Callable[[_Given], _Made], given: Iterable[_Given], ahead: int
) -> Iterator[_Made]:
    """The results in the order of what was given, of which at most `ahead` are under way."""
    waiting: deque[Future[_Made]] = deque()
    for one in given:
        waiting.append(pool.submit(work, one))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _chunks(shards: Iterable[Shard], size: int) -> Iterator[list[Shard]]:
    rest = iter(shards)
    while some := list(islice(rest, size)):
        yield some


_worker: Callable[[Iterable[Shard]], Iterator[Scored]] | ApcError
"""What this process scores with, or why it cannot; set once, when the process starts."""


def _start_worker(recipe: Recipe, free: Any, cores: int) -> None:
    global _worker
    device = free.get()
    torch.set_num_threads(cores)
    try:
        _worker = in_process(recipe, device)
    except ApcError as error:
        _worker = error
    except Exception as error:  # told with the first work: what an initializer raises is a trace
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        _worker = ApcError(f"a scoring process could not start: {what}")


def _work(shards: Sequence[Shard]) -> list[Scored]:
    if isinstance(_worker, ApcError):
        raise _worker
    return list(_worker(shards))
