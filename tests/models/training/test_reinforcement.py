"""GRPO on a two-layer model: the reward's plumbing, what it learns, and going on after a halt."""

import pytest
import torch
from players import adapted
from quiet import Quiet
from together import die, result_file, together

from apc_cli.config import Grpo
from apc_cli.errors import ConfigError
from apc_cli.models import ranks
from apc_cli.models.adapters import load_adapter, save_adapter
from apc_cli.models.judging.scorer import Scorer
from apc_cli.models.playing.role_player import RolePlayer, Sampling
from apc_cli.models.training.reinforcement import ApcReward, Prompt, reinforce
from apc_cli.reports.style import words

STATEMENTS = ["Mara is a baker.", "Mara fears dogs."]
SAMPLING = Sampling(max_new_tokens=4, seed=3)


def prompts(count=6):
    system = {"role": "system", "content": "Mara bakes."}
    return [
        Prompt([system, {"role": "user", "content": f"Day {i}?"}], f"Judged {i}?")
        for i in range(count)
    ]


def settings(**changes):
    values = {
        "queries_per_step": 2,
        "samples_per_query": 4,
        "micro_batch_size": 4,
        "epochs": 2,
        "learning_rate": 1e-2,
    }
    return Grpo(**(values | changes))


class Shortness(ApcReward):
    """A reward that a model can learn in a few steps: few words."""

    def __init__(self):
        self.seen, self.given = [], []

    def __call__(self, completions, judged_as, **others):
        self.seen += zip(judged_as, completions, strict=True)
        found = [-float(len(words(turns[-1]["content"]))) for turns in completions]
        self.given.append(found)
        return found


@pytest.fixture(scope="module")
def scorer(models):
    folder = models / "reward"
    return Scorer.load(relevance=str(folder / "relevance"), nli=str(folder / "nli"), device="cpu")


def logits(player):
    text = player.prompt_text(prompts(1)[0].conversation)
    ids = player.tokenizer(text, return_tensors="pt").input_ids
    with torch.no_grad():
        return player.model(input_ids=ids).logits[0, -1].clone()


def test_the_reward_is_the_apc_of_each_reply_less_the_penalty(scorer):
    reward = ApcReward(scorer, "Mara", STATEMENTS, lambda reply: reply == "Mara bakes.", 0.5)
    replies = ["I bake.", "Mara: Mara bakes.", "I fear dogs."]
    completions = [[{"role": "assistant", "content": reply}] for reply in replies]
    found = reward(completions, ["a?", "a?", "b?"], prompts=None, trainer_state=None)
    asked = [("a?", "I bake."), ("a?", "Mara bakes."), ("b?", "I fear dogs.")]
    expected = [score.apc for score in scorer.score_all("Mara", STATEMENTS, asked)]
    expected[1] -= 0.5
    assert found == pytest.approx(expected, abs=5e-3)


def test_each_query_is_answered_often_and_what_is_rewarded_grows(models, tmp_path):
    """Replies of one token, rewarded for an e in them: its probability can be read off."""
    player = adapted(models)
    vocabulary = player.tokenizer.batch_decode([[i] for i in range(len(player.tokenizer))])
    with_e = torch.tensor(["e" in token for token in vocabulary])

    class LetterE(Shortness):
        def __call__(self, completions, judged_as, **others):
            super().__call__(completions, judged_as)
            return [float("e" in turns[-1]["content"]) for turns in completions]

    def share():
        return float(logits(player).softmax(-1)[: len(with_e)][with_e].sum())

    before, reward = share(), LetterE()
    many = settings(
        epochs=4, samples_per_query=16, micro_batch_size=32, beta=0.0, learning_rate=0.02
    )
    one = Sampling(max_new_tokens=1, seed=3)
    rewards = reinforce(player, prompts(), reward, many, one, tmp_path / "c", Quiet())
    assert len(rewards) == 4 * 3  # passes × steps of two of the six queries
    asked = [judged for judged, _ in reward.seen]
    assert {asked.count(f"Judged {i}?") for i in range(6)} == {4 * 16}
    assert all(turns[-1]["role"] == "assistant" for _, turns in reward.seen)
    assert share() > before + 0.03


@pytest.mark.parametrize("kind", ["chat", "gemma"])
def test_the_adapter_is_saved_alone_and_loads_again(models, tmp_path, scorer, kind):
    from safetensors.torch import load_file

    player = adapted(models, kind)
    before = logits(player)
    reward = ApcReward(scorer, "Mara", STATEMENTS, lambda reply: False, 1.0)
    reinforce(player, prompts(), reward, settings(), SAMPLING, tmp_path / "c", Quiet())
    assert list(player.model.peft_config) == ["default"]
    assert not torch.equal(logits(player), before)
    save_adapter(player.model, tmp_path / "adapter", base=player.reference)
    weights = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert weights and not any("ref" in name.split(".") for name in weights)
    again = RolePlayer.load(str(models / kind), device="cpu", dtype="float32")
    again.model = load_adapter(again.model, tmp_path / "adapter")
    torch.testing.assert_close(logits(again), logits(player))


def test_a_halted_run_goes_on_to_the_same_adapter(models, tmp_path):
    whole, halted, resumed = adapted(models), adapted(models), adapted(models)
    expected = reinforce(
        whole, prompts(), Shortness(), settings(), SAMPLING, tmp_path / "whole", Quiet()
    )

    class Stop(Quiet):
        def advance(self, steps=1, note=""):
            super().advance(steps, note)
            if sum(self.steps) == 4:
                raise KeyboardInterrupt

    folder = tmp_path / "halted"
    with pytest.raises(KeyboardInterrupt):
        reinforce(halted, prompts(), Shortness(), settings(), SAMPLING, folder, Stop())
    reward = Shortness()
    found = reinforce(resumed, prompts(), reward, settings(), SAMPLING, folder, Quiet())
    assert len(reward.seen) == 3 * 8, "only the second pass was sampled again"
    assert found == expected
    torch.testing.assert_close(logits(resumed), logits(whole), rtol=0, atol=0)


def test_too_few_queries_for_a_step_are_told(models, tmp_path):
    with pytest.raises(ConfigError, match="too few for one step of 2"):
        reinforce(adapted(models), prompts(1), Shortness(), settings(), SAMPLING, tmp_path, Quiet())


class Dies(Quiet):
    """The process that leads dies in the second pass, after the checkpoint of the first."""

    def advance(self, steps=1, note=""):
        super().advance(steps, note)
        if sum(self.steps) == 4 and not ranks.own():
            die()


def learn_together(models, folder, progress):
    ranks.join()
    player, reward = adapted(models), Shortness()
    means = reinforce(player, prompts(), reward, settings(), SAMPLING, folder / "c", progress)
    weights = {n: p.detach() for n, p in player.model.named_parameters() if p.requires_grad}
    asked = [judged for judged, _ in reward.seen]
    torch.save((weights, means, asked, reward.given), result_file(folder))


def results(folder):
    return [torch.load(folder / f"rank-{rank}.pt") for rank in range(2)]


def test_two_processes_share_each_step_and_go_on_after_one_died(models, tmp_path):
    whole, halted = tmp_path / "whole", tmp_path / "halted"
    whole.mkdir(), halted.mkdir()
    assert together(learn_together, models, whole, Quiet()) == [0, 0]
    (one, means, asked_one, given_one), (other, same, asked_other, given_other) = results(whole)
    assert len(means) == 2 * 3 and means == same  # passes × steps of two of the six queries
    steps = list(zip(given_one, given_other, strict=True))
    assert means == [pytest.approx(sum(a + b) / 8, abs=1e-4) for a, b in steps]
    asked = [*asked_one, *asked_other]
    assert {asked.count(f"Judged {i}?") for i in range(6)} == {2 * 4}, "passes × replies, once each"
    start = dict(adapted(models).model.named_parameters())
    for name, weight in one.items():
        torch.testing.assert_close(other[name], weight, rtol=0, atol=0)
    assert any(not torch.equal(weight, start[name]) for name, weight in one.items())

    assert together(learn_together, models, halted, Dies())[0] == -9
    assert together(learn_together, models, halted, Quiet()) == [0, 0]
    again, found, asked_again, _ = results(halted)[0]
    assert len(asked_again) == 3 * 4, "only the second pass was sampled again"
    assert found == means
    for name, weight in one.items():
        torch.testing.assert_close(again[name], weight, rtol=0, atol=0)
