"""What every training goes through: NaN ends it, and attention whose gradients can be trusted."""

import pytest
import torch
from players import adapted
from quiet import Quiet

from apc_cli.errors import ApcError
from apc_cli.models.devices import sound_gradients
from apc_cli.models.training.experience import upload_experience
from apc_cli.models.training.trainers import last_checkpoint

TALK = [{"role": "user", "content": "Who are you?"}]


def train(player, folder):
    upload_experience(
        player, [(TALK, "I bake."), (TALK, "I am Mara.")], epochs=2, learning_rate=1e-3,
        batch_size=2, seed=1, checkpoints=folder, progress=Quiet(),
    )  # fmt: skip


@pytest.fixture
def player(models):
    return adapted(models)


def test_a_training_that_diverges_ends_at_that_step_without_a_checkpoint(player, tmp_path):
    weight = next(w for n, w in player.model.named_parameters() if "lora_A" in n)
    weight.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(ApcError, match=r"diverged at step 1: its gradients are not finite"):
        train(player, tmp_path)
    assert last_checkpoint(tmp_path) is None


def test_training_attends_without_cudnn_and_what_follows_as_before(player, tmp_path):
    seen = []
    handle = player.model.register_forward_pre_hook(
        lambda *_: seen.append(torch.backends.cuda.cudnn_sdp_enabled())
    )
    try:
        train(player, tmp_path)
    finally:
        handle.remove()
    assert torch.backends.cuda.cudnn_sdp_enabled() and seen and not any(seen)
    with pytest.raises(RuntimeError), sound_gradients():
        raise RuntimeError
    assert torch.backends.cuda.cudnn_sdp_enabled()
