"""The role-play model: templates, sampling, likelihood, SFT and DPO on a two-layer model."""

import json
import shutil
import signal
import threading
import time
from typing import get_args

import pytest
import torch
from players import adapted
from quiet import Quiet
from transformers import AutoTokenizer, MambaConfig, MambaForCausalLM

from apc_cli.config import Loss
from apc_cli.errors import ConfigError, DataError
from apc_cli.models.adapters import save_adapter
from apc_cli.models.playing import role_player
from apc_cli.models.playing.role_player import RolePlayer, Sampling, clean
from apc_cli.models.playing.sampling import generation_options
from apc_cli.models.training.experience import upload_experience
from apc_cli.models.training.preference import PreferenceSettings, fit_preferences
from apc_cli.models.training.trainers import last_checkpoint
from apc_cli.records import PreferencePair

SYSTEM = {"role": "system", "content": "Mara bakes."}
USER = {"role": "user", "content": "What do you do?"}
TALK = [SYSTEM, USER]


@pytest.fixture
def player(models):
    return RolePlayer.load(str(models / "chat"), device="cpu", dtype="float32")


def test_system_text_stays_where_the_template_knows_it(player):
    assert player.template_messages(TALK) == TALK
    assert player.prompt_text(TALK).endswith("<|im_start|>assistant\n")


def test_system_text_joins_the_first_user_turn_where_it_does_not(models):
    player = RolePlayer.load(str(models / "gemma"), device="cpu")
    assert player.template_messages(TALK) == [
        {"role": "user", "content": "Mara bakes.\n\nWhat do you do?"}
    ]
    assert "Mara bakes." in player.prompt_text(TALK)


def test_a_template_that_takes_minutes_is_refused(models, tmp_path, monkeypatch):
    shutil.copytree(models / "chat", tmp_path / "slow")
    loops = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    (tmp_path / "slow/chat_template.jinja").write_text(f"{loops}{{{{ messages[0]['content'] }}}}")
    monkeypatch.setattr(role_player, "_PATIENCE", 0.3)
    begin = time.monotonic()
    with pytest.raises(DataError, match="chat template took more than 0.3 s"):
        RolePlayer.load(str(tmp_path / "slow"), device="cpu")
    assert time.monotonic() - begin < 8
    assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_sampling_is_decided_by_the_seed(player):
    sampling = Sampling(max_new_tokens=6, seed=1)
    one = player.sample([TALK, [USER]], 3, sampling, batch_size=6)
    assert [len(group) for group in one] == [3, 3]
    assert one == player.sample([TALK, [USER]], 3, sampling, batch_size=6)
    assert one != player.sample([TALK, [USER]], 3, Sampling(max_new_tokens=6, seed=2), 6)
    assert not any("<|im" in reply for group in one for reply in group)


def test_padding_does_not_change_a_greedy_reply(player):
    cold = Sampling(max_new_tokens=6, temperature=1e-4)
    alone = player.sample([[USER]], 1, cold, batch_size=1)[0]
    beside_a_longer_one = player.sample([[USER], TALK], 1, cold, batch_size=2)[0]
    assert alone == beside_a_longer_one


def test_stream_gives_a_whole_reply(player):
    text = "".join(player.stream(TALK, Sampling(max_new_tokens=6, seed=1)))
    assert text and "<|im" not in text


def test_a_reader_that_goes_away_stops_the_writing(player):
    before = set(threading.enumerate())  # of other libraries, which may end in between
    replies = player.stream(TALK, Sampling(max_new_tokens=900, seed=1))
    next(replies)
    assert set(threading.enumerate()) - before
    replies.close()
    assert not set(threading.enumerate()) - before


def test_a_crash_while_streaming_reaches_the_reader(player):
    with pytest.raises(ValueError, match="temperature"):
        list(player.stream(TALK, Sampling(max_new_tokens=6, temperature=-1.0)))


def test_negative_log_likelihood_is_the_model_s_own_loss(player):
    prompt = player.tokenizer(player.prompt_text(TALK), return_tensors="pt").input_ids
    answer = player.tokenizer("I bake bread.", return_tensors="pt").input_ids
    ids = torch.cat([prompt, answer], 1)
    labels = torch.cat([torch.full_like(prompt, -100), answer], 1)
    with torch.no_grad():
        expected = float(player.model(input_ids=ids, labels=labels).loss)
    found = player.negative_log_likelihood([TALK, TALK], ["I bake bread.", ""])
    assert found == [pytest.approx(expected, abs=1e-4), 0.0]


def test_replies_read_together_have_the_likelihood_they_have_alone(player):
    other = [{"role": "user", "content": "And what else?"}]
    talks, replies = [TALK, TALK, TALK, other], ["I bake bread.", "", "I bake.", "I bake."]
    together = player.negative_log_likelihood(talks, replies)
    alone = [
        player.negative_log_likelihood([talk], [reply])[0]
        for talk, reply in zip(talks, replies, strict=True)
    ]
    assert together == pytest.approx(alone, abs=1e-5)
    assert together[1] == 0.0 and together[2] != pytest.approx(together[3], abs=1e-3)


def test_likelihood_ignores_the_adapter(models, player):
    other = adapted(models)
    with torch.no_grad():
        for name, parameter in other.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    ours = other.negative_log_likelihood([TALK], ["I bake."])
    assert ours == pytest.approx(player.negative_log_likelihood([TALK], ["I bake."]), abs=1e-5)


@pytest.mark.parametrize(
    ("raw", "kept"),
    [
        ("  Mara: I bake. ", "I bake."),
        ("assistant: hi", "hi"),
        ("I say: no", "I say: no"),
        ("a\n\n\n\nb", "a\n\nb"),
    ],
)
def test_clean(raw, kept):
    assert clean(raw, "Mara") == kept


def test_four_bit_needs_a_gpu(models):
    if torch.cuda.is_available():
        pytest.skip("this machine has one")
    with pytest.raises(ConfigError, match="needs a CUDA GPU"):
        RolePlayer.load(str(models / "chat"), quantization="nf4", device="cpu")
    with pytest.raises(ConfigError, match="no CUDA GPU"):
        RolePlayer.load(str(models / "chat"), device="cuda")


def pairs(count=8):
    return [
        PreferencePair(
            [SYSTEM, {"role": "user", "content": f"What do you do on day {i}?"}],
            [{"role": "assistant", "content": "I bake bread in Lund."}],
            [{"role": "assistant", "content": "I play the guitar."}],
            1.0,
            0.0,
        )
        for i in range(count)
    ]


def settings(**changes):
    values = {
        "beta": 0.1,
        "epochs": 3,
        "learning_rate": 1e-2,
        "batch_size": 4,
        "micro_batch_size": 2,
        "sft_weight": 0.2,
        "seed": 5,
    }
    return PreferenceSettings(**(values | changes))


def logits(player):
    ids = player.tokenizer(player.prompt_text(TALK), return_tensors="pt").input_ids
    with torch.no_grad():
        return player.model(input_ids=ids).logits[0, -1].clone()


def reply_logprob(player, reply):
    prompt = player.tokenizer(player.prompt_text(TALK), return_tensors="pt").input_ids
    answer = player.tokenizer(reply, return_tensors="pt").input_ids
    ids = torch.cat([prompt, answer], 1)
    labels = torch.cat([torch.full_like(prompt, -100), answer], 1)
    with torch.no_grad():
        return -float(player.model(input_ids=ids, labels=labels).loss)


def test_dpo_raises_the_chosen_over_the_rejected_and_plain_peft_loads_it(models, tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    player = adapted(models)

    def gap():
        return reply_logprob(player, "I bake bread in Lund.") - reply_logprob(
            player, "I play the guitar."
        )

    before = gap()
    fit_preferences(player, pairs(), settings(), tmp_path / "checkpoints", Quiet())
    assert gap() > before + 0.1
    save_adapter(player.model, tmp_path / "adapter", base=player.reference)
    base = AutoModelForCausalLM.from_pretrained(models / "chat", dtype=torch.float32)
    plain = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    ids = player.tokenizer(player.prompt_text(TALK), return_tensors="pt").input_ids
    with torch.no_grad():
        torch.testing.assert_close(plain(input_ids=ids).logits[0, -1], logits(player))


@pytest.mark.parametrize("loss", [name for name in get_args(Loss) if name != "sigmoid"])
def test_every_loss_of_the_configuration_trains(models, tmp_path, loss):
    player, smooth = adapted(models), 0.1 if loss in ("robust", "exo_pair") else 0.0
    before = logits(player)
    changed = settings(loss=loss, label_smoothing=smooth, epochs=1, sft_weight=0.0)
    assert fit_preferences(player, pairs(4), changed, tmp_path / "dpo", Quiet()) == {}
    assert torch.isfinite(logits(player)).all() and not torch.equal(logits(player), before)


@pytest.mark.parametrize("divergence", ["forward_kl", "js_divergence", "alpha_divergence"])
def test_every_divergence_is_another_objective(models, tmp_path, divergence):
    plain, other = adapted(models), adapted(models)
    fit_preferences(plain, pairs(4), settings(), tmp_path / "a", Quiet())
    fit_preferences(other, pairs(4), settings(f_divergence=divergence), tmp_path / "b", Quiet())
    assert not torch.allclose(logits(plain), logits(other), atol=1e-4)


STOPPING = {"held_out_share": 0.5, "patience": 1, "epochs": 6}


def test_training_stops_when_held_out_pairs_are_no_longer_won(models, tmp_path):
    player = adapted(models)
    found = fit_preferences(player, pairs(), settings(**STOPPING), tmp_path / "dpo", Quiet())
    accuracies = found["held-out accuracy"]
    assert found["held-out pairs"] == 4 and len(accuracies) < 6
    assert accuracies[found["epoch kept"]] == max(accuracies.values()) == 1.0
    assert list(accuracies)[-2] == found["epoch kept"], "one epoch of patience"
    kept = tmp_path / "dpo" / f"checkpoint-{int(float(found['epoch kept']))}"
    best = RolePlayer.load(str(models / "chat"), device="cpu", dtype="float32", adapter=kept)
    torch.testing.assert_close(logits(player), logits(best))


def test_a_halted_training_with_held_out_pairs_goes_on_to_the_same(models, tmp_path):
    whole, halted, resumed = adapted(models), adapted(models), adapted(models)
    slow = settings(**STOPPING | {"patience": 2}, learning_rate=1e-3)
    expected = fit_preferences(whole, pairs(), slow, tmp_path / "whole", Quiet())

    class Stop(Quiet):
        def advance(self, steps=1, note=""):
            super().advance(steps, note)
            if sum(self.steps) == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_preferences(halted, pairs(), slow, tmp_path / "halted", Stop())
    assert fit_preferences(resumed, pairs(), slow, tmp_path / "halted", Quiet()) == expected
    torch.testing.assert_close(logits(resumed), logits(whole), rtol=0, atol=0)


def test_too_few_queries_to_hold_any_out_is_told(models, tmp_path):
    with pytest.raises(DataError, match="too few"):
        fit_preferences(adapted(models), pairs(1), settings(**STOPPING), tmp_path / "dpo", Quiet())


def test_dpo_reads_each_prompt_once_for_the_reference_and_in_training(models, tmp_path):
    player = adapted(models)
    rows = []
    layer = player.model.get_base_model().base_model.layers[0]
    layer.register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))
    fit_preferences(player, pairs(), settings(), tmp_path / "checkpoints", Quiet())
    a_batch = settings().micro_batch_size
    assert max(rows) == a_batch  # trl alone: twice as many
    assert rows.count(a_batch) >= 2 * len(pairs()) // a_batch  # for the reference, then in training


def test_dpo_continues_an_sft_adapter(models, tmp_path):
    player = adapted(models)
    talk = [([SYSTEM, {"role": "user", "content": f"Day {i}?"}], "I bake bread.") for i in range(8)]
    before = reply_logprob(player, "I bake bread.")
    upload_experience(
        player,
        talk,
        epochs=2,
        learning_rate=1e-2,
        batch_size=4,
        seed=0,
        checkpoints=tmp_path / "sft",
        progress=Quiet(),
    )
    assert reply_logprob(player, "I bake bread.") > before
    save_adapter(player.model, tmp_path / "start", base=player.reference)
    started = RolePlayer.load(
        str(models / "chat"),
        adapter=tmp_path / "start",
        device="cpu",
        dtype="float32",
        trainable=True,
    )
    torch.testing.assert_close(logits(started), logits(player))
    fit_preferences(started, pairs(), settings(), tmp_path / "dpo", Quiet())
    assert not torch.allclose(logits(started), logits(player), atol=1e-3)


def test_interrupted_dpo_goes_on_to_the_same_adapter(models, tmp_path):
    whole, halted = adapted(models), adapted(models)
    fit_preferences(whole, pairs(), settings(), tmp_path / "whole", Quiet())

    class Stop(Quiet):
        def advance(self, steps=1, note=""):
            super().advance(steps, note)
            if sum(self.steps) == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_preferences(halted, pairs(), settings(), tmp_path / "halted", Stop())
    assert last_checkpoint(tmp_path / "halted").name == "checkpoint-2"
    resumed = adapted(models)
    fit_preferences(resumed, pairs(), settings(), tmp_path / "halted", Quiet())
    torch.testing.assert_close(logits(resumed), logits(whole), rtol=0, atol=0)


def test_a_damaged_checkpoint_is_passed_over(models, tmp_path):
    player = adapted(models)
    fit_preferences(player, pairs(), settings(epochs=2), tmp_path / "dpo", Quiet())
    newest = last_checkpoint(tmp_path / "dpo")
    assert newest.name == "checkpoint-4"
    weights = next(newest.rglob("adapter_model.safetensors"))
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    assert last_checkpoint(tmp_path / "dpo").name == "checkpoint-2"
    shutil.rmtree(tmp_path / "dpo" / "checkpoint-2")
    assert last_checkpoint(tmp_path / "dpo") is None


def test_code_that_comes_with_a_model_is_never_run(models, tmp_path):
    model, canary = tmp_path / "model", tmp_path / "canary"
    shutil.copytree(models / "chat", model)
    config = json.loads((model / "config.json").read_text())
    config |= {
        "model_type": "stranger",
        "auto_map": {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"},
    }
    (model / "config.json").write_text(json.dumps(config))
    (model / "code.py").write_text(f"open({str(canary)!r}, 'w').close()\n")
    with pytest.raises(ConfigError, match="cannot load the role-play model"):
        RolePlayer.load(str(model), device="cpu")
    assert not canary.exists()


def test_weights_that_are_pickles_are_not_read(models, tmp_path):
    model, canary = tmp_path / "model", tmp_path / "canary"
    shutil.copytree(models / "chat", model)
    (model / "model.safetensors").unlink()

    class Evil:
        def __reduce__(self):
            return (open, (str(canary), "w"))

    torch.save({"x": Evil()}, model / "pytorch_model.bin")
    with pytest.raises(ConfigError, match="cannot load the role-play model"):
        RolePlayer.load(str(model), device="cpu")
    assert not canary.exists()


def test_missing_adapter_is_told(models, tmp_path):
    with pytest.raises(DataError, match="adapter_model.safetensors"):
        RolePlayer.load(str(models / "chat"), adapter=tmp_path, device="cpu")


def test_reading_the_prompt_once_changes_no_reply(player):
    talks = [TALK, [{"role": "user", "content": "And what else do you do all day long?"}]]
    sampling = Sampling(max_new_tokens=12, temperature=0.8, seed=5)
    inputs = player._encode([player.prompt_text(talk) for talk in talks])
    torch.manual_seed(5)
    options = generation_options(sampling, player.tokenizer.pad_token_id)
    options |= {"num_return_sequences": 3}
    plain = player.model.generate(**inputs, **options)[:, inputs["input_ids"].shape[1] :]
    expected = [clean(t) for t in player.tokenizer.batch_decode(plain, skip_special_tokens=True)]
    player._slot_sampler = None
    assert sum(player.sample(talks, 3, sampling), []) == expected
    assert len(set(expected)) > 3


def test_a_model_without_keys_and_values_is_sampled_too(models, tmp_path):
    folder = shutil.copytree(models / "chat", tmp_path / "mamba")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    config = MambaConfig(
        vocab_size=len(tokenizer), hidden_size=16, state_size=4, num_hidden_layers=2,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    torch.manual_seed(0)
    MambaForCausalLM(config).save_pretrained(folder)
    player = RolePlayer.load(str(folder), device="cpu", dtype="float32")
    [replies] = player.sample([TALK], 3, Sampling(max_new_tokens=8, seed=1))
    assert len(set(replies)) == 3
    both = player.negative_log_likelihood([TALK, TALK], ["I bake bread.", "I bake."])
    alone = player.negative_log_likelihood([TALK], ["I bake."])
    assert both[1] == pytest.approx(alone[0], abs=1e-5) and both[0] > 0


def test_a_reply_of_the_longest_length_fills_it(player):
    ids = player.tokenizer("Mara bakes bread in Lund", add_special_tokens=False).input_ids
    assert player.fills("Mara bakes bread in Lund", len(ids) + 2)
    assert not player.fills("Mara bakes bread in Lund", len(ids) + 3)


def test_a_high_min_p_leaves_only_the_likeliest_token(player):
    sampling = Sampling(max_new_tokens=8, min_p=0.999, seed=1)
    [replies] = player.sample([TALK], 4, sampling)
    assert len(set(replies)) == 1
    assert len(set(player.sample([TALK], 4, Sampling(max_new_tokens=8, seed=1))[0])) > 1
