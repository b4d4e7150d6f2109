"""Kills at random times, and what they cost: the stages against the fault-injecting server.

Each workspace is killed a number of times while its labelled data is made, then finishes. Nothing
that the server delivered may be missing from the journal, but for what was under way at the kill.
"""

import hashlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fake_openai import FakeOpenAI, digest

from apc_cli.models.llm.journal import Journal

ROOT = Path(__file__).parents[2]
CHARACTER = "Alice"
CONCURRENCY = 16
ARTIFACTS = ("statements.jsonl", "queries.jsonl", "relevance.jsonl", "nli.jsonl")
FAULTS = ("500", "503", "429:0.02", "truncated", "html", "empty", "nochoices", "reset")
FAULT_SHARE = 0.03
CHILD = """
import sys
from pathlib import Path
from apc_cli.cli import options
from apc_cli.config import load_config
from apc_cli.workshop import Workshop
from apc_cli.workspace import Workspace
root, who, concurrency, project, stage = sys.argv[1:]
settings = ("teacher.backend=openai", f"teacher.concurrency={concurrency}")
config = load_config(who, settings=settings, folder=Path(project))
shop = Workshop(config, Workspace(Path(root), who), options.progress(), Path(project))
options.build(shop, stage, (), dry_run=False)
"""


@dataclass
class Tally:
    """What the kills did, over all workspaces."""

    kills: int = 0
    delivered: int = 0
    lost: int = 0
    under_way: list[int] = field(default_factory=list)
    repaid: int = 0
    differing: int = 0
    requests_on_rerun: int = 0
    faults: Counter[str] = field(default_factory=Counter)


def run(folder: Path, workspaces: int, kills: int, seed: int) -> Tally:
    """Kills `kills` runs in each of `workspaces`; returns the figures."""
    draw, tally = random.Random(seed), Tally()
    expected = _uninterrupted(folder / "whole")
    for number in range(workspaces):
        with FakeOpenAI(_plan(draw, tally.faults), delay=0.02) as server:
            _kill_and_finish(folder / str(number), server, kills, draw, tally)
        found = hashes(folder / str(number))
        tally.differing += sum(found[name] != expected[name] for name in ARTIFACTS)
    return tally


def _uninterrupted(root: Path) -> dict[str, str]:
    with FakeOpenAI() as server:
        _finish(root, server)
    return hashes(root)


def _kill_and_finish(
    root: Path, server: FakeOpenAI, kills: int, draw: random.Random, tally: Tally
) -> None:
    landed = 0
    while landed < kills:
        before, child = server.requests, start(root, server)
        while server.requests == before and child.poll() is None:
            time.sleep(0.002)
        time.sleep(draw.uniform(0, 0.25))
        child.send_signal(signal.SIGKILL)
        if child.wait() != -signal.SIGKILL:
            break  # it was done before
        landed += 1
        time.sleep(0.1)  # what the server is sending may still arrive nowhere
        tally.under_way.append(len(_missing(root, server)))
    tally.kills += landed
    tally.lost += sum(max(0, n - CONCURRENCY) for n in tally.under_way[-landed:] if landed)
    _finish(root, server)
    tally.lost += len(_missing(root, server))
    tally.delivered += sum(server.deliveries.values())
    tally.repaid += sum(server.deliveries.values()) - len(server.deliveries)
    asked = server.requests
    _finish(root, server)
    tally.requests_on_rerun += server.requests - asked


def start(
    root: Path, server: FakeOpenAI, stage: str = "label-data", tracer: Sequence[str] = ()
) -> subprocess.Popen[bytes]:
    """A run up to the stage in a process of its own, under a tracer if there is one."""
    environment = os.environ | {
        "OPENAI_API_KEY": "sk-canary-0123456789abcdef",
        "OPENAI_BASE_URL": server.url,
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    arguments = [str(root), CHARACTER, str(CONCURRENCY), str(ROOT), stage]
    command = [*tracer, sys.executable, "-c", CHILD, *arguments]
    return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)


def _finish(root: Path, server: FakeOpenAI) -> None:
    code = start(root, server).wait(300)
    if code != 0:
        raise RuntimeError(f"the run in {root} ended with exit code {code}")


def _missing(root: Path, server: FakeOpenAI) -> set[str]:
    """Delivered replies that the journal does not hold."""
    path = root / CHARACTER / "teacher.journal"
    if not path.is_file():
        return set(server.deliveries)
    with Journal(path) as journal:
        keys = [key for key in journal.names("") if not key.startswith("unreadable")]
        bodies = [json.loads(journal.request(key)) for key in keys]
    return set(server.deliveries) - {digest(body["messages"]) for body in bodies}


def hashes(root: Path, names: Sequence[str] = ARTIFACTS) -> dict[str, str]:
    """SHA-256 of each artifact that is there."""
    paths = [root / CHARACTER / name for name in names]
    found = [path for path in paths if path.is_file()]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def _plan(draw: random.Random, chosen: Counter[str]) -> Iterator[str | None]:
    """Faults for a share of the requests, drawn from the seed, and counted as they are given."""
    own = random.Random(draw.random())
    for _ in itertools.count():
        fault = own.choice(FAULTS) if own.random() < FAULT_SHARE else None
        if fault:
            chosen[fault.split(":")[0]] += 1
        yield fault
