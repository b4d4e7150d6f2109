"""The whole fault suite: `python -m tests.faults`; writes figures.json and the README's table.

python -m tests.faults [--kills 200] [--seed 1]      runs it and writes both
python -m tests.faults --table                       writes the table from figures.json
"""

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from faults import corruption, kills, sweep  # noqa: E402
from faults.figures import FIGURES, write_table  # noqa: E402

KILLS_A_WORKSPACE = 10


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if not options.table:
        found = measure(options.kills, options.seed)
        FIGURES.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        print(json.dumps(found, indent=1))
    write_table(json.loads(FIGURES.read_text(encoding="utf-8")))


def measure(count: int, seed: int) -> dict:
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        workspaces = max(1, count // KILLS_A_WORKSPACE)
        tally = kills.run(root, workspaces, min(count, KILLS_A_WORKSPACE), seed)
        journal = root / "whole" / kills.CHARACTER / "teacher.journal"
        damage = corruption.run(journal, root / "damaged", 200, seed)
        swept = sweep.run(root / "swept")
        pairs = corruption.two_at_once(root, 20)
    kill_figures = asdict(tally) | {"workspaces": workspaces, "concurrency": kills.CONCURRENCY}
    kill_figures["faults"] = dict(sorted(tally.faults.items()))
    return {
        "seed": seed,
        "date": time.strftime("%Y-%m-%d"),
        "seconds": round(time.monotonic() - begin),
        "kills": kill_figures,
        "damage": asdict(damage),
        "failing calls": asdict(swept) if swept else None,
        "two processes": pairs,
    }


if __name__ == "__main__":
    main()
