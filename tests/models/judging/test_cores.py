"""Work side by side: the results, what each thread may use, and what a failure leaves."""

import threading
from functools import partial

import numpy as np
import pytest
import torch

from apc_cli.models.devices import native_formats
from apc_cli.models.judging import cores, scorer
from apc_cli.models.judging.cores import side_by_side
from apc_cli.models.judging.scorer import Scorer


@pytest.fixture(autouse=True)
def two_cores():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_two_pieces_run_at_once_on_one_core_each():
    met = threading.Barrier(2, timeout=20)

    def piece(number):
        met.wait()  # breaks where one waits for the other's end
        return number, torch.get_num_threads(), torch.is_inference_mode_enabled()

    with torch.inference_mode():
        found = side_by_side([partial(piece, number) for number in range(2)])
    assert found == [(0, 1, True), (1, 1, True)]
    assert torch.get_num_threads() == 2


def test_results_keep_their_order_and_one_piece_has_all_cores():
    assert side_by_side([lambda n=n: n * n for n in range(50)]) == [n * n for n in range(50)]
    assert side_by_side([torch.get_num_threads]) == [2]
    assert side_by_side([]) == []


@pytest.mark.parametrize("in_caller", [True, False])
def test_a_failure_ends_the_work_and_frees_the_cores(in_caller):
    caller, failed = threading.current_thread(), threading.Event()
    met, begun = threading.Barrier(2, timeout=20), []

    def piece(number):
        begun.append(number)
        if number < 2:
            met.wait()
        if (threading.current_thread() is caller) == in_caller and not failed.is_set():
            failed.set()
            raise ValueError("broken")
        assert failed.wait(20)
        threading.Event().wait(0.3 if number < 2 else 0)  # meanwhile the caller lets go of the rest

    with pytest.raises(ValueError, match="broken"):
        side_by_side([partial(piece, number) for number in range(20)])
    assert torch.get_num_threads() == 2
    assert len(begun) == (2 if in_caller else 20), "who fails takes nothing more"


@pytest.mark.skipif(not native_formats(torch.device("cpu")), reason="needs bfloat16 products")
def test_scores_are_the_same_bits_on_one_core_and_on_two(models, monkeypatch):
    pair = {kind: str(models / "evaluator" / kind) for kind in ("relevance", "nli")}
    statements = ["Mara bakes bread.", "Mara owns two cats.", "Mara fears dogs."]
    rows = [("Any pets?", "Two cats."), ("Any pets?", "None."), ("Your work?", "I bake.")]
    together = []

    def watched(work):
        together.append(len(work))
        return side_by_side(work)

    def scores(threads, replies):
        torch.set_num_threads(threads)
        judge = Scorer.load(**pair, device="cpu", dtype="bfloat16")
        found = judge.score_all("Mara", statements, replies)
        return np.array([(c.relevance, c.entailed) for s in found for c in s.constraints])

    monkeypatch.setattr(scorer, "side_by_side", watched)
    for replies, asked in ((rows[:1], [2]), (rows, [])):
        alone = scores(1, replies)
        together.clear()
        np.testing.assert_array_equal(scores(2, replies), alone)
        assert together == asked, "both judges at once for one reply alone"
    assert cores._threads()._threads, "they were used"
