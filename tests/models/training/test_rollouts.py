"""What GRPO learns from: sampled like other replies, others at each step and in each process."""

from types import SimpleNamespace

import pytest
import torch
from players import adapted

from apc_cli.models.playing.role_player import Sampling
from apc_cli.models.training.rollouts import Rollouts

SAMPLING = Sampling(max_new_tokens=6, seed=3)
TALKS = [
    [{"role": "system", "content": "Mara bakes."}, {"role": "user", "content": f"Day {i}?"}]
    for i in range(3)
]


@pytest.fixture
def player(models):
    player = adapted(models)
    player.model.train()
    return player


def at_step(step):
    return SimpleNamespace(state=SimpleNamespace(global_step=step))


def test_replies_are_those_of_the_player_to_each_prompt(player):
    asked = [TALKS[0]] * 4 + [TALKS[1]] * 4
    found = Rollouts(player, SAMPLING)(asked, at_step(0))
    template = [player.tokenizer(player.prompt_text(talk)).input_ids for talk in TALKS[:2]]
    assert found["prompt_ids"] == [template[0]] * 4 + [template[1]] * 4
    assert player.model.training
    player.model.eval()
    expected = player.sample_tokens(TALKS[:2], 4, SAMPLING, batch_size=8)
    assert found["completion_ids"] == [tokens for one in expected for tokens in one]


def test_shares_of_unlike_size_are_answered_in_their_order(player):
    found = Rollouts(player, SAMPLING)([TALKS[0]] * 2 + [TALKS[1]] * 4, at_step(0))
    player.model.eval()
    expected = player.sample_tokens([TALKS[0], TALKS[1], TALKS[1]], 2, SAMPLING, batch_size=6)
    assert found["completion_ids"] == [tokens for one in expected for tokens in one]


def test_a_step_draws_the_same_again_and_others_draw_otherwise(player, monkeypatch):
    rollouts, asked = Rollouts(player, SAMPLING), [TALKS[0]] * 4

    def drawn(step):
        return rollouts(asked, at_step(step))["completion_ids"]

    first, second = drawn(0), drawn(1)
    assert first != second and drawn(0) == first
    monkeypatch.setenv("WORLD_SIZE", "2")
    shares = []
    for rank in "01":
        monkeypatch.setenv("RANK", rank)
        shares += [drawn(0), drawn(1)]
    assert len({str(share) for share in shares}) == 4


def test_recomputed_activations_change_no_reply(player):
    rollouts, asked = Rollouts(player, SAMPLING), [TALKS[2]] * 4
    plain = rollouts(asked, at_step(0))["completion_ids"]
    player.model.gradient_checkpointing_enable({"use_reentrant": False})
    player.model.enable_input_require_grads()
    assert rollouts(asked, at_step(0))["completion_ids"] == plain


def test_a_reply_ends_with_the_token_that_ends_it(player):
    end = player.model.generation_config.eos_token_id
    with torch.no_grad():
        player.model.get_output_embeddings().weight[end] *= 40
    found = Rollouts(player, SAMPLING)([TALKS[0]] * 32, at_step(0))["completion_ids"]
    ended = [tokens for tokens in found if end in tokens]
    assert any(len(tokens) < 6 for tokens in ended)
    assert all(tokens.index(end) == len(tokens) - 1 for tokens in ended)
    assert all(len(tokens) == 6 for tokens in found if tokens not in ended)
