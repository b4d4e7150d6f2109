"""Passes chosen by memory, references kept as two numbers, large checkpoints written seldom."""

from types import SimpleNamespace

import psutil
import pytest
import torch
from datasets import Dataset
from models.playing.test_role_player import adapted, logits, pairs, settings
from quiet import Quiet
from transformers import TrainerControl
from trl import DPOConfig, DPOTrainer

from apc_cli.errors import ApcError
from apc_cli.models.memory import free_bytes
from apc_cli.models.training import preference, trainers, within_memory
from apc_cli.models.training.dpo_trainer import LeanDpoTrainer
from apc_cli.models.training.lean_training import lean
from apc_cli.models.training.packed_pairs import Branches
from apc_cli.models.training.preference import fit_preferences
from apc_cli.models.training.training_plans import Plan, fastest, plans, slower


def test_the_fewest_passes_first_and_rather_recomputed_than_row_by_row():
    assert plans(8, None) == [
        Plan(8), Plan(4), Plan(8, True), Plan(4, True), Plan(2), Plan(2, True), Plan(1),
        Plan(1, True),
    ]  # fmt: skip


def test_no_more_rows_than_asked_for_and_only_what_divides_a_batch():
    assert {way.rows for way in plans(12, 5)} == {4, 3, 2, 1}


@pytest.mark.parametrize(
    ("room", "chosen"),
    [(80, Plan(8)), (79, Plan(4)), (39, Plan(8, True)), (9, Plan(4, True)), (1, Plan(1, True))],
)
def test_the_fastest_that_fits(room, chosen):
    """A row takes 10 where activations are kept, 2 where they are not."""
    assert fastest(plans(8, None), kept=10, recomputed=2, room=room) == chosen


def test_a_row_that_does_not_fit_is_recomputed():
    ways = plans(4, None)
    assert fastest(ways, kept=float("inf"), recomputed=2, room=6) == Plan(2, True)


def test_each_next_way_takes_less_memory_until_there_is_none():
    plan, taken = Plan(4), []
    while plan:
        taken.append(plan)
        plan = slower(plan, 4, None)
    assert taken == [Plan(4), Plan(4, True), Plan(2, True), Plan(1, True)]


def on_gpu(monkeypatch, player, first):
    """As if the player's model were on a GPU, where `first` was found to fit."""
    monkeypatch.setattr(within_memory, "_measured", lambda *arguments: first)
    model = SimpleNamespace(
        device=torch.device("cuda"),
        parameters=player.model.parameters,
        zero_grad=player.model.zero_grad,
    )
    return SimpleNamespace(model=model)


def test_training_that_runs_out_of_memory_begins_again_with_less(monkeypatch, models, tmp_path):
    player, tried = adapted(models), []
    weights = [p for p in player.model.parameters() if p.requires_grad]
    start = [w.clone() for w in weights]

    def attempt(plan):
        assert all(torch.equal(w, s) for w, s in zip(weights, start, strict=True))
        tried.append(plan)
        for weight in weights:
            weight.data.add_(1)
        if plan.rows > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return "trained"

    shown = on_gpu(monkeypatch, player, Plan(8))
    longest = Branches([1], [2], [3])
    made = within_memory.train_within_memory(shown, 8, None, longest, attempt, tmp_path, Quiet())
    assert made == "trained" and tried == [Plan(8), Plan(4), *(Plan(n, True) for n in (8, 4, 2))]


def test_what_never_fits_is_told(monkeypatch, models, tmp_path):
    def attempt(plan):
        raise torch.OutOfMemoryError("CUDA out of memory")

    shown = on_gpu(monkeypatch, adapted(models), Plan(2))
    with pytest.raises(ApcError, match="does not fit into the GPU's memory"):
        within_memory.train_within_memory(
            shown, 2, None, Branches([1], [2], [3]), attempt, tmp_path, Quiet()
        )


def test_references_are_those_of_trl(models, tmp_path):
    made = {}
    for kind in (DPOTrainer, LeanDpoTrainer):
        player = adapted(models)
        for name, weight in player.model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.1, generator=torch.Generator().manual_seed(1))
        common = trainers.common_arguments(player, tmp_path, epochs=1, learning_rate=1, seed=0)
        config = DPOConfig(**common, precompute_ref_log_probs=kind is DPOTrainer)
        rows = Dataset.from_list([preference._row(player, pair) for pair in pairs(3)])
        trainer = kind(
            model=player.model, args=config, train_dataset=rows, processing_class=player.tokenizer
        )
        if kind is LeanDpoTrainer:
            with lean(player.model, pairs=True):
                trainer.add_references()
            assert set(player.model.peft_config) == {"default"}, "no copy of the adapter stays"
        made[kind] = trainer.train_dataset
    for name in ("ref_chosen_logps", "ref_rejected_logps"):
        expected = torch.tensor(made[DPOTrainer][name])
        torch.testing.assert_close(torch.tensor(made[LeanDpoTrainer][name]), expected)


def test_large_checkpoints_are_written_seldom(models, monkeypatch, tmp_path):
    callback, control = trainers.SaveSeldom(60), TrainerControl(should_save=True)
    callback.on_epoch_end(None, None, control)
    assert not control.should_save
    now = trainers.time.monotonic()
    monkeypatch.setattr(trainers.time, "monotonic", lambda: now + 61)
    control.should_save = True
    callback.on_epoch_end(None, None, control)
    assert control.should_save
    callback.on_save(None, None, control)
    callback.on_epoch_end(None, None, control)
    assert not control.should_save


def test_a_run_without_checkpoints_trains_the_same(models, monkeypatch, tmp_path):
    plain, large = adapted(models), adapted(models)
    fit_preferences(plain, pairs(), settings(), tmp_path / "plain", Quiet())
    monkeypatch.setattr(trainers, "_LARGE", 0)
    fit_preferences(large, pairs(), settings(), tmp_path / "large", Quiet())
    assert len(list((tmp_path / "plain").glob("checkpoint-*"))) == 2
    assert not list((tmp_path / "large").glob("checkpoint-*"))
    torch.testing.assert_close(logits(large), logits(plain), rtol=0, atol=0)


def memory(monkeypatch, total):
    """A GPU of `total` bytes, all of them free; the tests' models lie on the CPU."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=total))
    for name in ("reset_peak_memory_stats", "memory_allocated", "memory_reserved"):
        monkeypatch.setattr(torch.cuda, name, lambda device=None, name=name: 0)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (total, total))
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda device: 1.0)


@pytest.mark.parametrize("branches", [[7, 8, 9], []], ids=["a pair", "a dialogue"])
@pytest.mark.parametrize(("gib", "chosen"), [(40, Plan(8)), (12, Plan(4)), (4, Plan(8, True))])
def test_what_a_row_takes_is_measured_and_leaves_no_trace(
    monkeypatch, models, branches, gib, chosen
):
    player, passes = adapted(models), []
    memory(monkeypatch, gib * 2**30)
    base = player.model.get_base_model()

    def peak(device):
        passes.append(base.base_model.layers[0].gradient_checkpointing)
        return (0.2 if passes[-1] else 2) * 2**30

    monkeypatch.setattr(torch.cuda, "max_memory_allocated", peak)
    before = logits(player)
    row = Branches([5, 6, 7], [8, 9], branches)
    assert within_memory._measured(player.model, 8, None, row) == chosen
    assert passes == [False, True], "kept, then recomputed"
    assert not base.base_model.layers[0].gradient_checkpointing and not player.model.training
    assert all(weight.grad is None for weight in player.model.parameters())
    torch.testing.assert_close(logits(player), before, rtol=0, atol=0)


def test_memory_left_is_what_the_process_may_take(monkeypatch):
    gib = 2**30
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (70 * gib, 80 * gib))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 10 * gib)
    for share, left in ((1.0, 70), (0.3, 14)):
        monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda d, s=share: s)
        assert free_bytes(torch.device("cuda")) == pytest.approx(left * gib)
