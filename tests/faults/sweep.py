"""Failing system calls: the journal's Nth write or sync fails, or the process dies within it."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fake_openai import FakeOpenAI
from faults.kills import CHARACTER, CONCURRENCY, hashes, start

INJECTIONS = ("write:error=ENOSPC", "fsync:error=EIO", "write:signal=KILL", "fsync:signal=KILL")
PLACES = (1, 2, 3, 5, 8, 13, 21, 34)
STAGE, ARTIFACTS = "queries", ("statements.jsonl", "queries.jsonl")


@dataclass
class Swept:
    """Injections that fired, and after how many the rerun was not as it should be."""

    fired: int = 0
    not_stopped: int = 0
    differing: int = 0
    paid_again_beyond_those_under_way: int = 0


def run(
    folder: Path, places: Sequence[int] = PLACES, injections: Sequence[str] = INJECTIONS
) -> Swept | None:
    """One run with each injection, then one without; None where there is no strace."""
    if shutil.which("strace") is None:
        return None
    with FakeOpenAI() as server:
        start(folder / "plain", server, STAGE).wait(300)
    expected, swept = hashes(folder / "plain", ARTIFACTS), Swept()
    for injection in injections:
        for place in places:
            _try(folder, f"{injection}:when={place}", expected, swept)
    return swept


def _try(folder: Path, injection: str, expected: dict[str, str], swept: Swept) -> None:
    root = folder / injection.replace(":", "-")
    journal, log = root / CHARACTER / "teacher.journal", folder / f"{root.name}.log"
    tracer = ["strace", "-f", "-o", str(log), "-P", str(journal), "-e", f"inject={injection}"]
    with FakeOpenAI(delay=0.01) as server:
        code = start(root, server, STAGE, tracer).wait(300)
        if "INJECTED" not in log.read_text() and "killed by SIGKILL" not in log.read_text():
            return
        swept.fired += 1
        swept.not_stopped += code == 0
        code = start(root, server, STAGE).wait(300)
        swept.differing += code != 0 or hashes(root, ARTIFACTS) != expected
        again = sum(server.deliveries.values()) - len(server.deliveries)
        swept.paid_again_beyond_those_under_way += max(0, again - CONCURRENCY)
