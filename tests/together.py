"""Starts a function in several processes that train together, as a launcher would."""

import os
import signal
import time
from multiprocessing import get_context
from multiprocessing.connection import wait
from pathlib import Path

from apc_cli.cli.team import _free_port


def together(work, *arguments, processes=2):
    """Runs `work(*arguments)` in each: the exit codes by rank. One that dies ends the others.

    So does the end of five minutes: who is not told to go on waits for half an hour.
    """
    until = time.monotonic() + 300
    port, context = _free_port(), get_context("spawn")
    team = [
        context.Process(target=_process, args=(rank, processes, port, work, arguments))
        for rank in range(processes)
    ]
    for process in team:
        process.start()
    waiting = {process.sentinel for process in team}
    while waiting and not any(process.exitcode for process in team):
        waiting -= set(wait(waiting, timeout=5))
        if time.monotonic() > until:
            break
    for process in team:
        process.terminate()
        process.join()
    return [process.exitcode for process in team]


def _process(rank, processes, port, work, arguments):
    import torch

    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    torch.set_num_threads(1)
    work(*arguments)


def die():
    """As if the machine had lost power."""
    os.kill(os.getpid(), signal.SIGKILL)


def result_file(folder) -> Path:
    """Where a process leaves what the test looks at."""
    return Path(folder) / f"rank-{os.environ['RANK']}.pt"
