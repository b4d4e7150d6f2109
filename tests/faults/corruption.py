"""A journal cut anywhere, flipped bits, two processes at once: what is noticed, what is lost."""

import random
from dataclasses import dataclass
from pathlib import Path

from fake_openai import FakeOpenAI
from faults.kills import start

from apc_cli.models.llm.journal import Journal


@dataclass
class Damage:
    """Cases tried, and in how many something went wrong."""

    cuts: int = 0
    cuts_wrong: int = 0
    flips: int = 0
    flips_unnoticed: int = 0
    most_records_lost_by_a_flip: int = 0
    wrong_replies_used: int = 0


def run(whole: Path, scratch: Path, flips: int, seed: int) -> Damage:
    """Cuts the journal at every byte of its last three records; flips bits all over it."""
    content, damage = whole.read_bytes(), Damage()
    sound = _replies(whole)
    lines = content.splitlines(keepends=True)
    start_of_last = len(content) - sum(map(len, lines[-3:]))
    for cut in range(start_of_last, len(content)):
        scratch.write_bytes(content[:cut])
        kept = content[:cut].count(b"\n") - 1  # the header is no record
        found = _replies(scratch)
        damage.cuts += 1
        damage.cuts_wrong += len(found) != kept or not found.items() <= sound.items()
    draw = random.Random(seed)
    for _ in range(flips):
        changed = bytearray(content)
        changed[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        scratch.write_bytes(changed)
        _count_flip(scratch, sound, damage)
    return damage


def _count_flip(scratch: Path, sound: dict[str, str], damage: Damage) -> None:
    with Journal(scratch) as journal:
        noticed = journal.damaged > 0
    found = _replies(scratch)
    lost = len(sound.keys() - found.keys())
    damage.flips += 1
    damage.flips_unnoticed += not noticed and not _flipped_header(scratch)
    damage.most_records_lost_by_a_flip = max(damage.most_records_lost_by_a_flip, lost)
    damage.wrong_replies_used += sum(found[k] != sound[k] for k in found.keys() & sound.keys())
    damage.wrong_replies_used += len(found.keys() - sound.keys())


def _flipped_header(path: Path) -> bool:
    return b"format" not in path.read_bytes()[:90]


def _replies(path: Path) -> dict[str, str]:
    path.with_name(path.name + ".bad").unlink(missing_ok=True)
    with Journal(path) as journal:
        return {key: journal.get(key) for key in journal.names("")}


def two_at_once(folder: Path, times: int) -> dict[str, int]:
    """Starts the same run twice at the same moment; one must do it all, the other must say why not.

    Returns how often the exit codes were other than 0 and 75, and how many replies were paid twice.
    """
    found = {"pairs": times, "wrong exit codes": 0, "paid twice": 0}
    for number in range(times):
        with FakeOpenAI(delay=0.02) as server:
            children = [start(folder / f"two {number}", server) for _ in range(2)]
            codes = sorted(child.wait(300) for child in children)
            # The child is no command line: an error that would be exit code 75 is a traceback, 1.
            found["wrong exit codes"] += codes not in ([0, 0], [0, 1])
            found["paid twice"] += sum(server.deliveries.values()) - len(server.deliveries)
    return found
