"""The README's table of what was survived, made from figures.json."""

from pathlib import Path
from typing import Any

FIGURES = Path(__file__).parent / "figures.json"
README = Path(__file__).parents[2] / "README.md"
BEGIN, END = "<!-- faults: python -m tests.faults -->", "<!-- /faults -->"


def table(found: dict[str, Any]) -> str:
    """The figures as a Markdown table."""
    kills, damage, pairs = found["kills"], found["damage"], found["two processes"]
    under_way = kills["under_way"]
    mean = kills["repaid"] / max(1, kills["kills"])
    faults = sum(kills["faults"].values())
    rows = [
        ("runs killed at random times (SIGKILL), beside injected server faults",
         f"{kills['kills']}, {faults}"),
        ("replies delivered by the server, of them lost",
         f"{kills['delivered']}, {kills['lost']}"),
        ("replies paid again per kill, mean; missing from the journal after one, most "
         f"(of {kills['concurrency']} under way)",
         f"{mean:.1f}; {max(under_way, default=0)}"),
        (f"artifacts of {kills['workspaces']} workspaces that differ from an uninterrupted run",
         str(kills["differing"])),
        ("requests when the finished work is run again", str(kills["requests_on_rerun"])),
        ("journal cut at each byte of its last three records: cases, of them wrong",
         f"{damage['cuts']}, {damage['cuts_wrong']}"),
        ("single bits flipped in the journal: cases, of them unnoticed, most records lost by one",
         f"{damage['flips']}, {damage['flips_unnoticed']}, "
         f"{damage['most_records_lost_by_a_flip']}"),
        ("wrong replies used after a cut or a flip", str(damage["wrong_replies_used"])),
        ("same run started twice at once: pairs, replies paid twice",
         f"{pairs['pairs']}, {pairs['paid twice']}"),
    ]  # fmt: skip
    if swept := found["failing calls"]:
        name = "write or sync of the journal that failed, or died (strace): cases, of them wrong"
        rows.insert(5, (name, f"{swept['fired']}, {swept['differing'] + swept['not_stopped']}"))
    lines = [f"| {name} | {value} |" for name, value in rows]
    title = f"| {found['date']}, seed {found['seed']} | |"
    return "\n".join([title, "|---|---|", *lines])


def write_table(found: dict[str, Any]) -> None:
    """Puts the table into the README, between its marks."""
    text = README.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    README.write_text(f"{before}{BEGIN}\n{table(found)}\n{END}{after}", encoding="utf-8")
