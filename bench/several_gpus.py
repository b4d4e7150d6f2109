"""DPO and scoring on one GPU and on several: python bench/several_gpus.py train

    python bench/several_gpus.py train --pairs 8            # pairs a step, which processes share
    python bench/several_gpus.py train --pairs 32
    python bench/several_gpus.py score --rows 20480
    python bench/several_gpus.py train --shape tiny         # a smoke test anywhere
    python bench/several_gpus.py score --shape tiny --rows 5120

`train` takes 16 steps of DPO and gives the mean of the last eight, in processes of `ranks`. `score`
scores rows of 8 statements, four replies a query, as `apc score --gpus` does, and gives the speed
behind the first 16 shards, and a digest of the scores. Weights are random. To measure one GPU
beside two at the same time, start the script twice, with --processes 1 and 2 and other GPUs in
CUDA_VISIBLE_DEVICES.
"""

import argparse
import hashlib
import json
import os
import socket
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import dpo
import torch
from random_models import SHAPES as PLAYERS
from scoring_material import SHAPES as JUDGES
from scoring_material import Persona, write_pair
from torch.multiprocessing import start_processes

from apc_cli.models import ranks
from apc_cli.models.judging import engines
from apc_cli.records import Item

STEPS, SHARD, STATEMENTS, REPLIES, SKIPPED = 16, 256, 8, 4, 16


def train(options: argparse.Namespace) -> None:
    """DPO in one process after another number of them."""
    for processes in options.processes:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        arguments = (processes, port, options.shape or "gemma-7b", options.pairs)
        start_processes(_train, arguments, processes, start_method="spawn")


def _train(place: int, processes: int, port: int, shape: str, pairs: int) -> None:
    os.environ |= {
        "RANK": str(place), "LOCAL_RANK": str(place), "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    ranks.join()
    kind = f"{processes} processes, {pairs} pairs a step"
    made = dpo.ours(shape, pairs * STEPS, 1, nf4=False, kind=kind, batch=pairs)
    if not place:
        print(made, flush=True)
    ranks.gathered(None)


def score(options: argparse.Namespace) -> None:
    """The same shards by so many processes; nothing is read from the cache of relevance."""
    cuda = torch.cuda.is_available()
    with tempfile.TemporaryDirectory() as place:
        os.environ["APC_CACHE"] = f"{place}/cache"
        folder, device = Path(place), torch.device("cuda" if cuda else "cpu")
        relevance, nli = write_pair(options.shape or "deberta-large", folder, device)
        recipe = engines.Recipe(relevance, nli, "en", explain=False, cache_before=0.0)
        shards = _shards(options.rows)
        for processes in options.processes:
            devices = [f"cuda:{i}" if cuda else "cpu" for i in range(processes)]
            started, times, digest = time.perf_counter(), [], hashlib.sha256()
            for rows, _ in engines.in_processes(recipe, devices)(shards):
                times.append(time.perf_counter())
                digest.update(json.dumps(rows).encode())
            speed = SHARD * (len(times) - SKIPPED) / (times[-1] - times[SKIPPED - 1])
            print(
                f"{processes} processes: {speed:.0f} rows/s behind the first {SKIPPED} shards of "
                f"{len(times)}, the first after {times[0] - started:.1f} s; scores "
                f"{digest.hexdigest()[:16]}", flush=True,
            )  # fmt: skip


def _shards(rows: int) -> list[list[Item]]:
    persona = Persona(STATEMENTS)
    items = [
        Item({"query": query, "response": reply}, persona.name, tuple(persona.statements), None)
        for query, reply in persona.replies(rows // REPLIES, REPLIES)
    ]
    return [items[i : i + SHARD] for i in range(0, rows - rows % SHARD, SHARD)]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("train", "score"))
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--shape", choices=sorted({*PLAYERS, *JUDGES}))
    parser.add_argument("--pairs", type=int, default=8, help="train: pairs a step")
    parser.add_argument("--rows", type=int, default=20_480, help="score: more than 4352")
    return parser.parse_args()


if __name__ == "__main__":
    chosen = _options()
    {"train": train, "score": score}[chosen.part](chosen)
