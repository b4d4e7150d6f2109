"""SFT and DPO over a base model that two processes share out, on the CPU."""

from dataclasses import replace

import torch
from accelerate import accelerator
from quiet import Quiet
from together import die, result_file, together
from torch.distributed.tensor import DTensor

from apc_cli.models import ranks
from apc_cli.models.adapters import add_lora, load_adapter, save_adapter
from apc_cli.models.playing.role_player import RolePlayer
from apc_cli.models.training.experience import upload_experience
from apc_cli.models.training.preference import PreferenceSettings, fit_preferences
from apc_cli.records import PreferencePair

REPLIES = ["I bake bread.", "I fear dogs.", "Two cats.", "I sing on Fridays.", "In Lund.", "Forty."]

SETTINGS = PreferenceSettings(
    beta=0.1, epochs=3, learning_rate=1e-2, batch_size=2, micro_batch_size=1, sft_weight=0.5,
    seed=1,
)  # fmt: skip


class Dies(Quiet):
    """The process that leads dies in the second epoch of DPO."""

    def task(self, title, total):
        self.title, self.steps = title, []
        return self

    def advance(self, steps=1, note=""):
        super().advance(steps, note)
        if self.title == "DPO" and sum(self.steps) == 5 and not ranks.own():
            die()


def asked(i):
    return [
        {"role": "system", "content": "Mara bakes."}, {"role": "user", "content": f"Day {i}?"}
    ]  # fmt: skip


def said(reply):
    return [{"role": "assistant", "content": reply}]


def pairs(count):
    replies = [said(REPLIES[i % len(REPLIES)]) for i in range(count + 1)]
    return [PreferencePair(asked(i), replies[i + 1], replies[i], 1.0, 0.0) for i in range(count)]


def train(models, folder, progress, placement="whole"):
    """SFT, then DPO on another adapter, which starts from the first."""
    load = {"device": "cpu", "dtype": "float32", "placement": placement}
    player = RolePlayer.load(str(models / "chat"), **load)
    torch.manual_seed(0)
    player.model = add_lora(player.model, rank=4, alpha=8, task="CAUSAL_LM")
    upload_experience(
        player, [(asked(i), reply) for i, reply in enumerate(REPLIES)], epochs=1,
        learning_rate=1e-2, batch_size=2, seed=1, checkpoints=folder / "sft", progress=progress,
    )  # fmt: skip
    if not ranks.own():
        save_adapter(player.model, folder / "warm", base="chat")
    ranks.gathered(None)
    player = RolePlayer.load(str(models / "chat"), **load)
    player.model = load_adapter(player.model, folder / "warm", trainable=True)
    fit_preferences(player, pairs(6), SETTINGS, folder / "dpo", progress)
    return player


def train_sharded(models, folder, progress):
    ranks.join()
    player = train(models, folder, progress, "sharded")
    layers = player.model.get_base_model().model.layers
    parts = [w for w in layers.parameters() if isinstance(w, DTensor)]
    held = sum(w.to_local().numel() for w in parts), sum(w.numel() for w in parts)
    outside = sum(isinstance(w, DTensor) for w in player.model.parameters()) - len(parts)
    if not ranks.own():
        save_adapter(player.model, folder / "adapter", base="chat")
    found = weights(player), held, outside, progress.said
    alone = replace(SETTINGS, epochs=1, held_out_share=0.1)  # one pair is no work for two
    figures = fit_preferences(player, pairs(7), alone, folder / "held-out", Quiet())
    torch.save((*found, figures["held-out pairs"]), result_file(folder))


def weights(player):
    return {
        name: weight.detach().clone()
        for name, weight in player.model.named_parameters()
        if weight.requires_grad
    }


def test_two_processes_with_half_a_model_each_train_the_adapter_that_one_trains(models, tmp_path):
    whole, shared = tmp_path / "whole", tmp_path / "shared"
    expected = weights(train(models, whole, Quiet()))
    shared.mkdir()
    assert together(train_sharded, models, shared, Dies())[0] == -9
    assert together(train_sharded, models, shared, Quiet()) == [0, 0]
    results = [torch.load(shared / f"rank-{rank}.pt") for rank in range(2)]
    for found, (held, all_there), outside, said, held_out in results:
        assert 0 < held == all_there / 2 and outside == 0 and held_out == 1
        assert found.keys() == expected.keys()
        for name, weight in found.items():
            torch.testing.assert_close(weight, expected[name], atol=1e-5, rtol=1e-3)
        assert any(line.startswith("DPO: 6 steps") for line in said), said
    plain = RolePlayer.load(str(models / "chat"), device="cpu", dtype="float32")
    plain.model = load_adapter(plain.model, shared / "adapter", trainable=True)
    for name, weight in weights(plain).items():
        torch.testing.assert_close(weight, results[0][0][name], rtol=0, atol=0)


def test_what_accelerate_refuses_ddp_by_on_gpus_is_where_it_is_swapped():
    assert callable(vars(accelerator)["model_has_dtensor"])
    names = accelerator.Accelerator.prepare_model.__code__.co_names
    assert "model_has_dtensor" in names, "looked up in the module"
