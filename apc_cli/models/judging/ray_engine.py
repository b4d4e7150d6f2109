"""Shards of rows scored by actors of a Ray cluster: the same scores, to the last bit."""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from apc_cli.errors import ConfigError
from apc_cli.models.judging.engines import Recipe, Scored, Shard, in_process, load
from apc_cli.records import Item


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
            batch_size=load(device),
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


class _RayWorker:
    """An actor: takes places in the spool, gives scored rows as JSON text."""

    def __init__(self, recipe: Recipe, device: str) -> None:
        self._score = in_process(recipe, device)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        places = zip(*(batch[key].tolist() for key in ("path", "start", "size")), strict=True)
        scored = list(self._score(_despooled(*place) for place in places))
        return {
            "rows": [json.dumps(rows) for rows, _ in scored],
            "truncated": [truncated for _, truncated in scored],
        }


def _despooled(path: str, start: int, size: int) -> Shard:
    with open(path, "rb") as spool:
        spool.seek(start)
        fields = json.loads(spool.read(size))
    return [Item(row, who, tuple(told), error) for row, who, told, error in fields]


def _spool(shards: Iterable[Shard], path: Path) -> Iterator[dict[str, Any]]:
    """Writes the shards behind one another, and gives each one's place."""
    with path.open("wb") as spool:
        for shard in shards:
            start = spool.tell()
            fields = [(i.row, i.character, i.statements, i.error) for i in shard]
            spool.write(json.dumps(fields).encode())
            yield {"path": str(path.absolute()), "start": start, "size": spool.tell() - start}
