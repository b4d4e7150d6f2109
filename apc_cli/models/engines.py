"""Where shards of rows are scored: in this process, in several, or on a Ray cluster.

All give the same scores to the last bit: a shard is scored from nothing, and shards are fixed by
the order of the rows.
"""

import json
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from apc_cli.errors import ApcError, ConfigError
from apc_cli.histories import query_in_context
from apc_cli.models.devices import pick_device
from apc_cli.models.llm.llm_scorer import LlmScorer
from apc_cli.models.scorer import Scorer
from apc_cli.records import Item

Shard = Sequence[Item]
Scored = tuple[list[dict[str, Any]], int]
"""The rows of a shard with their scores, and how many inputs were too long for the models."""


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


def score_shard(scorer: Scorer | LlmScorer, shard: Shard, explain: bool) -> Scored:
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
    threads = threads or (2 if pick_device(device).type == "cuda" else 1)
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


def one_by_one(
    scorer: Scorer | LlmScorer, explain: bool
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
        try:
            yield from in_order(pool, _work, shards, 3 * len(devices))
        except BrokenProcessPool:
            raise ApcError(
                "a scoring process died", "out of memory? give fewer --workers or a smaller model"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)

    return run


def on_ray(
    recipe: Recipe, workers: int, device: str, spool: Path
) -> Callable[[Iterable[Shard]], Iterator[Scored]]:
    """Actors of a Ray cluster: the one of $RAY_ADDRESS, else one on this machine.

    Shards go to `spool`, a file that every machine of the cluster must see; Ray Data moves the
    places of the shards there, and the scored rows back.

    Raises:
        ConfigError: Ray is not installed.
    """
    try:
        import ray  # noqa: PLC0415 - an optional extra
        from ray.data import ActorPoolStrategy, DataContext  # noqa: PLC0415
    except ImportError:
        raise ConfigError("--engine ray needs Ray", "pip install 'apc-cli[ray]'") from None

    def run(shards: Iterable[Shard]) -> Iterator[Scored]:
        if not ray.is_initialized():
            ray.init(log_to_driver=False, logging_level="error")
        context = DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False
        places = list(_spool(shards, spool))
        made = ray.data.from_items(places, override_num_blocks=len(places)).map_batches(
            _RayWorker,
            fn_constructor_args=(recipe, device),
            batch_size=1,
            compute=ActorPoolStrategy(size=workers),
            num_gpus=1 if device == "cuda" else 0,
            num_cpus=1,
        )
        try:
            for answer in made.iter_rows():
                yield json.loads(answer["rows"]), int(answer["truncated"])
        finally:
            spool.unlink(missing_ok=True)

    return run


def in_order(
    pool: Executor, work: Callable[[Shard], Scored], shards: Iterable[Shard], ahead: int
) -> Iterator[Scored]:
    """The results in the order of the shards, of which at most `ahead` are under way."""
    waiting: deque[Future[Scored]] = deque()
    for shard in shards:
        waiting.append(pool.submit(work, shard))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


_worker: tuple[Scorer, bool] | ApcError
"""What this process scores with, or why it cannot; set once, when the process starts."""


def _start_worker(recipe: Recipe, free: Any, cores: int) -> None:
    global _worker
    device = free.get()
    if device == "cpu":
        torch.set_num_threads(cores)
    try:
        _worker = recipe.scorer(device), recipe.explain
    except ApcError as error:
        _worker = error


def _work(shard: Shard) -> Scored:
    if isinstance(_worker, ApcError):
        raise _worker
    return score_shard(_worker[0], shard, _worker[1])


class _RayWorker:
    """An actor: takes places in the spool, gives scored rows as JSON text."""

    def __init__(self, recipe: Recipe, device: str) -> None:
        self._scorer, self._explain = recipe.scorer(device), recipe.explain

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        [path], [start], [size] = (batch[key].tolist() for key in ("path", "start", "size"))
        with open(path, "rb") as spool:
            spool.seek(start)
            fields = json.loads(spool.read(size))
        shard = [Item(row, who, tuple(told), error) for row, who, told, error in fields]
        rows, truncated = score_shard(self._scorer, shard, self._explain)
        return {"rows": [json.dumps(rows)], "truncated": [truncated]}


def _spool(shards: Iterable[Shard], path: Path) -> Iterator[dict[str, Any]]:
    """Writes the shards behind one another, and gives each one's place."""
    with path.open("wb") as spool:
        for shard in shards:
            start = spool.tell()
            fields = [(i.row, i.character, i.statements, i.error) for i in shard]
            spool.write(json.dumps(fields).encode())
            yield {"path": str(path.absolute()), "start": start, "size": spool.tell() - start}
