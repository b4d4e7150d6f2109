"""Sampling by the decoding loop: what `generate` gives, in any batch size, with adapters merged."""

from contextlib import suppress
from types import SimpleNamespace

import psutil
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GemmaConfig,
    GPT2Config,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
)

from apc_cli.errors import TryAgainLater
from apc_cli.models.adapters import add_lora
from apc_cli.models.playing import cpu_slots
from apc_cli.models.playing.decoding import draw, logits_processors
from apc_cli.models.playing.merged_layers import merged, replaceable
from apc_cli.models.playing.role_player import RolePlayer
from apc_cli.models.playing.sampling import Sampling, generation_options
from apc_cli.models.playing.slot_sampling import SlotSampler
from apc_cli.models.playing.slots import Slots, UnsupportedModel, attend_plainly

WORDS = 300
PROMPTS = [[5, 9, 3], list(range(3, 40)), [7], list(range(50, 62)), [8, 8, 4, 100]]
TINY = {
    "vocab_size": WORDS, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "initializer_range": 0.3,
    "eos_token_id": 2, "pad_token_id": 0, "bos_token_id": 1, "max_position_embeddings": 256,
}  # fmt: skip
GPT2 = GPT2Config(
    vocab_size=WORDS, n_embd=64, n_layer=2, n_head=4, eos_token_id=2, pad_token_id=0,
    initializer_range=0.3,
)  # fmt: skip


def network(config):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


def greedy(model, prompt, new, **options):
    ids = torch.tensor([prompt])
    found = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, do_sample=False, **options
    )
    return found[0, len(prompt) :].tolist()


@torch.inference_mode()
def sampled(model, n=1, most=None, prompts=PROMPTS, **settings):
    return SlotSampler(model).sample(prompts, n, Sampling(**settings), most)


@pytest.mark.parametrize("config", [GemmaConfig(**TINY), LlamaConfig(**TINY), GPT2])
@pytest.mark.parametrize("penalty", [1.0, 1.4])
def test_the_likeliest_reply_is_that_of_generate(config, penalty):
    model = network(config)
    found = sampled(
        model, 2, most=3, max_new_tokens=12, temperature=1e-4, repetition_penalty=penalty
    )
    for prompt, replies in zip(PROMPTS, found, strict=True):
        exact = greedy(model, prompt, 12, repetition_penalty=penalty)
        assert replies == [exact, exact]


def test_a_reply_ends_with_any_of_the_tokens_that_end_one():
    model = network(LlamaConfig(**TINY))
    [[whole]] = sampled(model, prompts=PROMPTS[:1], max_new_tokens=12, seed=1)
    model.generation_config.eos_token_id = [2, whole[4]]
    [[ended]] = sampled(model, prompts=PROMPTS[:1], max_new_tokens=12, seed=1)
    assert ended == whole[: whole.index(whole[4]) + 1]


def test_neither_the_batch_size_nor_the_other_prompts_decide_a_reply():
    model = network(LlamaConfig(**TINY))
    settings = {"max_new_tokens": 10, "temperature": 0.9, "min_p": 0.02, "seed": 3}
    together = sampled(model, 3, **settings)
    assert together == sampled(model, 3, most=2, **settings)
    assert together[:2] == sampled(model, 3, prompts=PROMPTS[:2], **settings)
    later = sampled(model, 3, prompts=PROMPTS[2:], **settings | {"seed": 5})
    assert together[2:] == later, "a reply's seed is that of the run and its query's place"
    assert len({tuple(reply) for replies in together for reply in replies}) == 15
    assert together != sampled(model, 3, **settings | {"seed": 4})


def test_tokens_are_drawn_as_often_as_they_are_likely():
    chances = torch.tensor([0.5, 0.0, 0.25, 0.125, 0.125])
    luck = (torch.arange(1000) + 0.5)[:, None] / 1000
    drawn = draw(chances.log().expand(1000, -1), luck)
    assert drawn.bincount(minlength=5).tolist() == [500, 0, 250, 125, 125]


def test_no_token_without_probability_is_drawn():
    torch.manual_seed(0)
    scores = torch.randn(64, 5000)
    scores[:, 10:] = -torch.inf
    luck = torch.cat([torch.zeros(32, 1), torch.ones(32, 1)])
    assert draw(scores, luck).max() < 10


@pytest.mark.parametrize(
    "settings",
    [{"temperature": 0.7, "top_p": 0.8}, {"min_p": 0.2, "repetition_penalty": 1.3}],
)
def test_scores_are_processed_as_generate_does(settings):
    model, sampling = network(LlamaConfig(**TINY)), Sampling(1, **settings)
    ids = torch.tensor([PROMPTS[1]])
    given = model.generate(
        ids, attention_mask=torch.ones_like(ids), output_scores=True,
        return_dict_in_generate=True, **generation_options(sampling, 0),
    )  # fmt: skip
    with torch.no_grad():
        logits = model(ids).logits[:, -1]
    ours = logits_processors(sampling)(ids, logits)
    torch.testing.assert_close(torch.softmax(ours, -1), torch.softmax(given.scores[0], -1))


def test_a_prompt_is_kept_once_for_all_its_replies_and_its_place_used_again():
    model = network(LlamaConfig(**TINY))
    prompts = [[3 + i, 9, 40 + i] for i in range(12)]
    rows = []
    model.model.layers[0].register_forward_pre_hook(lambda _, args: rows.append(args[0].shape))
    found = sampled(model, 4, most=6, prompts=prompts, max_new_tokens=6, temperature=1e-4)
    assert [replies[0] for replies in found] == [greedy(model, p, 6) for p in prompts]
    read = [shape for shape in rows if shape[1] == 2]
    assert sum(shape[0] for shape in read) == len(prompts)


@pytest.mark.parametrize(
    "config",
    [
        MistralConfig(**TINY, sliding_window=8),
        Gemma2Config(**TINY),
        MambaConfig(vocab_size=WORDS, hidden_size=16, state_size=4, num_hidden_layers=2),
    ],
)
def test_a_model_that_remembers_otherwise_is_left_to_generate(config):
    with torch.inference_mode():
        assert not SlotSampler(network(config)).supported


def test_a_window_matters_only_to_what_is_longer():
    model = network(MistralConfig(**TINY, sliding_window=60))
    found = sampled(model, max_new_tokens=12, temperature=1e-4)
    assert [replies[0] for replies in found] == [greedy(model, p, 12) for p in PROMPTS]
    with pytest.raises(UnsupportedModel, match="60 tokens"):
        sampled(model, max_new_tokens=30)


def test_a_model_that_generate_would_treat_otherwise_is_left_to_it():
    model = network(LlamaConfig(**TINY))
    model.generation_config.no_repeat_ngram_size = 2
    with torch.inference_mode():
        assert not SlotSampler(model).supported


def test_where_memory_does_not_suffice_half_as_many_go_on_to_the_same_replies():
    model = network(LlamaConfig(**TINY))
    settings = {"max_new_tokens": 8, "seed": 1}
    expected = sampled(model, 2, **settings)
    with torch.inference_mode():
        sampler = SlotSampler(model)
    most, tried = 3, []

    def full(_, args):
        if args[0].shape[1] == 1:
            tried.append(len(args[0]))
            if len(args[0]) > most:
                raise torch.OutOfMemoryError("injected")

    model.model.layers[1].register_forward_pre_hook(full)
    with torch.inference_mode():
        assert sampler.sample(PROMPTS, 2, Sampling(**settings)) == expected
        assert list(dict.fromkeys(tried)) == [10, 5, 2]
        most = 0
        with pytest.raises(TryAgainLater, match="memory"):
            sampler.sample(PROMPTS, 2, Sampling(**settings))


def adapted(config):
    model = add_lora(network(config), rank=4, alpha=8, task="CAUSAL_LM").eval()
    torch.manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name or name.endswith("bias"):
                weight.normal_(std=0.3)
    return model


def test_plain_layers_say_what_adapted_ones_say_and_leave_no_trace():
    model = adapted(LlamaConfig(**TINY, attention_bias=True))
    ids = torch.tensor([PROMPTS[1]])
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    modules = dict(model.named_modules())
    with torch.no_grad():
        expected = model(ids).logits
        layers = replaceable(model)
        with merged(layers, torch.float32):
            assert not any("lora" in name for name, _ in model.named_modules())
            torch.testing.assert_close(model(ids).logits, expected, rtol=1e-4, atol=1e-4)
    assert len(layers) == 14
    assert dict(model.named_modules()) == modules
    assert all(torch.equal(weight, before[n]) for n, weight in model.named_parameters())


def test_plain_layers_go_back_after_a_crash():
    model = adapted(LlamaConfig(**TINY))
    modules = dict(model.named_modules())
    with suppress(KeyboardInterrupt), merged(replaceable(model), torch.float32):
        raise KeyboardInterrupt
    assert dict(model.named_modules()) == modules


def test_an_adapter_that_cannot_be_added_to_weights_stays():
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=2, target_modules=["q_proj"], use_dora=True)
    assert replaceable(get_peft_model(network(LlamaConfig(**TINY)), config)) == []


def test_an_adapted_model_is_sampled_with_its_adapter():
    model = adapted(LlamaConfig(**TINY))
    found = sampled(model, max_new_tokens=10, temperature=1e-4)
    assert [replies[0] for replies in found] == [greedy(model, p, 10) for p in PROMPTS]
    with model.disable_adapter():
        assert [replies[0] for replies in found] != [greedy(model, p, 10) for p in PROMPTS]


def test_each_process_gets_its_share_of_what_may_be_divided(models, monkeypatch):
    player = RolePlayer.load(str(models / "chat"), device="cpu", dtype="float32")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with torch.inference_mode():
        assert player.conversations_at_once(None, 2, 41) == 21
        assert player.conversations_at_once(None, 2, 5000) == 32
        assert player.conversations_at_once(96, 2, 5000) == 48
    player._slot_sampler = None
    assert player.conversations_at_once(96, 12, 36) == 8, "a batch decides what generate draws"


def test_a_role_player_samples_the_same_texts_either_way(models):
    player = RolePlayer.load(str(models / "chat"), device="cpu", dtype="float32")
    talks = [[{"role": "user", "content": text}] for text in ("Hello!", "What do you bake?")]
    cold = Sampling(max_new_tokens=8, temperature=1e-4)
    finished = []
    found = player.sample(talks, 2, cold, 3, finished.append)
    assert player._slot_sampler and sum(finished) == 2
    player._slot_sampler = None
    assert player.sample(talks, 2, cold) == found


@pytest.mark.parametrize("longest", [0, 7])
def test_replies_that_read_their_prompts_together_attend_as_each_alone(longest):
    torch.manual_seed(0)
    prompts, replies, heads, groups, size = 4, 9, 6, 2, 8
    prompt = [torch.randn(prompts, groups, 7, size) for _ in range(2)]
    stored = [torch.randn(replies, groups, 5, size) for _ in range(2)]
    query = torch.randn(replies, heads, size)
    new = [torch.randn(replies, groups, size) for _ in range(2)]
    answered = torch.tensor([3, 0, 3, 1, 0, 3, 1, 3, 2])
    starts = torch.tensor([longest, 2, 7, 1, 6, 3, 4, 5, 7]).clamp(max=longest)
    written = torch.tensor([0, 4, 2, 1, 3, 0, 2, 1, 4])
    live = torch.tensor([1, 1, 0, 1, 1, 1, 0, 1, 1]).bool()
    counts = (answered, starts, (written + 1) * live)
    expected_store = [one.clone() for one in stored]
    expected = attend_plainly(query, new, prompt, expected_store, *counts, 0.3)[live]
    rows = live.nonzero()[:, 0]
    group = cpu_slots.readers(rows, answered[rows], starts[rows], written[rows])
    assert (group.prompts.tolist(), group.most) == ([0, 1, 2, 3], 3)
    asked = [one[rows] for one in (query, *new)]
    found = cpu_slots.attend(asked[0], tuple(asked[1:]), prompt, stored, group, 0.3)
    torch.testing.assert_close(found, expected)
    for one, same in zip(stored, expected_store, strict=True):
        torch.testing.assert_close(one[rows], same[rows], rtol=0, atol=0)


def test_on_a_cpu_a_step_reads_only_replies_that_go_on():
    model = network(LlamaConfig(**TINY))
    whole = [reply[0] for reply in sampled(model, max_new_tokens=9, temperature=1e-4)]
    model.generation_config.eos_token_id = [2, whole[1][2]]
    rows = []
    model.model.layers[0].register_forward_pre_hook(lambda _, args: rows.append(args[0].shape))
    ended = [reply[0] for reply in sampled(model, max_new_tokens=9, temperature=1e-4)]
    assert len(ended[1]) < 9, "one ends early"
    steps = [shape[0] for shape in rows if shape[1] == 1][-9:]
    assert steps == [sum(len(reply) > step for reply in ended) for step in range(9)]


def test_no_more_replies_are_under_way_than_the_memory_of_a_cpu_takes(monkeypatch):
    model = network(LlamaConfig(**TINY))
    sampler, sampling = SlotSampler(model), Sampling(max_new_tokens=8)
    assert sampler._fitting(PROMPTS, 9, sampling, 45) == 45
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=14_000_000))
    assert 1 <= sampler._fitting(PROMPTS, 9, sampling, 45) < 45


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(("heads", "kv_heads", "size"), [(4, 4, 256), (8, 2, 64), (6, 2, 80)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_kernel_attends_as_plain_pytorch_does(heads, kv_heads, size, dtype):
    from apc_cli.models.playing.decode_kernel import attend

    def made(*shape):
        return torch.randn(*shape, device="cuda", dtype=dtype)

    prompt = made(3, kv_heads, 70, size), made(3, kv_heads, 70, size)
    reply = made(5, kv_heads, 40, size), made(5, kv_heads, 40, size)
    counts = [
        torch.tensor(row, dtype=torch.int32, device="cuda")
        for row in ([0, 2, 1, 2, 0], [70, 3, 0, 33, 0], [1, 40, 33, 7, 0])
    ]
    query = made(5, heads, size)
    new, copy = (made(5, kv_heads, size), made(5, kv_heads, size)), tuple(t.clone() for t in reply)
    exact = attend_plainly(query, new, prompt, reply, *counts, size**-0.5)
    found = attend(query, new, prompt, copy, *counts, size**-0.5)
    assert all(torch.equal(a[:4], b[:4]) for a, b in zip(reply, copy, strict=True))
    torch.testing.assert_close(
        found, exact, rtol=0.02, atol=2e-2 if dtype != torch.float32 else 1e-4
    )


def test_slots_take_the_memory_that_is_planned_for():
    from apc_cli.models.playing.slots import LayerShape, bytes_a_token

    shapes = [LayerShape(2, 16, 16), LayerShape(2, 16, 8)]
    slots = Slots(shapes, 3, 5, 7, 11, torch.bfloat16, torch.device("cpu"))
    stored = [t for pair in (*slots.prompts, *slots.replies) for t in pair]
    taken = sum(t.numel() * t.element_size() for t in stored)
    assert taken == (3 * 7 + 5 * 11) * bytes_a_token(shapes, torch.bfloat16)
