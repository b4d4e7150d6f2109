"""The fault suite in small, and the README's table of its last whole run."""

import json
import shutil

import pytest
from faults import corruption, kills, sweep
from faults.figures import BEGIN, END, FIGURES, README, table


def test_kills_lose_nothing_and_change_nothing(tmp_path):
    tally = kills.run(tmp_path, workspaces=1, kills=3, seed=5)
    assert tally.kills >= 2 and tally.delivered > 300
    assert tally.lost == tally.differing == tally.requests_on_rerun == 0
    assert tally.repaid <= sum(tally.under_way) <= tally.kills * kills.CONCURRENCY
    whole = tmp_path / "whole" / kills.CHARACTER / "teacher.journal"
    damage = corruption.run(whole, tmp_path / "damaged", 10, seed=5)
    assert damage.cuts > 1000 and damage.flips == 10
    assert damage.cuts_wrong == damage.wrong_replies_used == damage.flips_unnoticed == 0
    assert damage.most_records_lost_by_a_flip <= 2


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_failing_writes_and_syncs_stop_the_run_and_lose_nothing(tmp_path):
    swept = sweep.run(tmp_path, places=(2,), injections=sweep.INJECTIONS[::3])
    assert swept.fired == 2
    assert swept.not_stopped == swept.differing == swept.paid_again_beyond_those_under_way == 0


def test_the_readme_shows_the_figures_of_the_last_whole_run():
    found = json.loads(FIGURES.read_text(encoding="utf-8"))
    assert found["kills"]["kills"] >= 150
    shown = README.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0]
    assert shown.strip() == table(found)
