"""`apc train` in several processes, one for each GPU: started here or by `accelerate launch`."""

import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any

from apc_cli.cli.termination import TERMINATED
from apc_cli.errors import ApcError, ConfigError

if TYPE_CHECKING:
    from apc_cli.workshop import Workshop

_GRACE = 5.0
"""Seconds that processes have to end by themselves once one of them has failed."""


def launch(processes: int, device: str) -> int:
    """Runs this very command line in so many processes; the exit code of what went wrong first.

    Raises:
        ConfigError: they would train on GPUs that this machine has not.
        ApcError: a process died without a word.
    """
    _check_gpus(processes, device)
    from torch.multiprocessing import ProcessExitedException, ProcessRaisedException
    from torch.multiprocessing.spawn import start_processes

    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # warns of each interrupted process
    team = start_processes(
        _process, (processes, _free_port(), sys.argv), processes, join=False, start_method="spawn"
    )
    try:
        while not team.join(grace_period=_GRACE):
            pass
    except (ProcessExitedException, ProcessRaisedException) as error:
        return _judged(team, error)
    except BaseException:
        for process in team.processes:
            process.terminate()
        raise
    return 0


def _check_gpus(processes: int, device: str) -> None:
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # each would take a GPU, where there are some
        return
    import torch

    if processes > (there := torch.cuda.device_count()):
        raise ConfigError(
            f"--num-gpus {processes}: this machine has {there}",
            "give fewer, or set device: cpu to train in so many processes without GPUs",
        )


def _judged(team: Any, error: Exception) -> int:
    """The exit code of the process that told what is wrong; others failed for want of it."""
    ends = zip((process.exitcode for process in team.processes), team.error_files, strict=True)
    told = [code for code, trace in ends if code and code > 0 and not os.path.exists(trace)]
    told = sorted(told, key=lambda code: code == TERMINATED)
    if told and told[0] != TERMINATED:
        return told[0]
    last = str(error).strip().splitlines()[-1]
    raise ApcError(f"training process failed: {last}", "APC_DEBUG=1 shows more") from error


def _process(place: int, processes: int, port: int, arguments: list[str]) -> None:
    """One of the processes."""
    from apc_cli.cli import main

    os.environ |= {
        "RANK": str(place), "LOCAL_RANK": str(place), "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    sys.argv = arguments
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started all ends them, too
    main()


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def help_along(shop: "Workshop") -> None:
    """Not leading: does what the first process calls all to, writing and saying nothing."""
    from apc_cli.models import ranks
    from apc_cli.progress import Silence
    from apc_cli.running import run_stage

    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # waiting for others, no handler would run
    shop.progress = Silence()
    stages = shop.pipeline().stages
    for name, fingerprint in ranks.calls():
        run_stage(shop, stages[name], fingerprint)
