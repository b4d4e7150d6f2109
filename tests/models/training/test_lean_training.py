"""Lean passes give trl's own losses and gradients, and leave alone what cannot branch."""

import contextlib
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, MistralConfig, MixtralConfig
from trl.trainer.utils import add_fused_lm_head

from apc_cli.models.adapters import add_lora
from apc_cli.models.training import lean_training
from apc_cli.models.training.lean_training import lean
from apc_cli.models.training.swapping import swapped

SMALL = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
PAIRS = [  # prompt, chosen, rejected; the second pair's replies begin alike
    ([5, 6, 7, 8], [20, 21, 22, 2], [30, 31, 2]),
    ([5, 9], [40, 41, 2], [40, 42, 43, 44, 2]),
]


def trainer(config):
    torch.manual_seed(0)
    model = add_lora(
        AutoModelForCausalLM.from_config(config), rank=2, alpha=8, task="CAUSAL_LM"
    ).train()
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight)
    add_fused_lm_head(
        model.get_base_model(), outputs=("log_probs", "entropy", "mean_logits", "is_top1")
    )
    return SimpleNamespace(model=model)


def batch():
    rows = [prompt + chosen for prompt, chosen, _ in PAIRS]
    rows += [prompt + rejected for prompt, _, rejected in PAIRS]
    prompts = [len(prompt) for prompt, *_ in PAIRS] * 2
    width = max(map(len, rows))
    ids, mask = torch.zeros(4, width, dtype=torch.long), torch.zeros(4, width, dtype=torch.long)
    labels = torch.full((4, width), -100)
    for i, (row, prompt) in enumerate(zip(rows, prompts, strict=True)):
        ids[i, : len(row)], mask[i, : len(row)] = torch.tensor(row), 1
        labels[i, prompt : len(row)] = torch.tensor(row[prompt:])
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def outcome(made, passes, device="cpu"):
    """Every figure of a pass, and the gradient."""
    made.model.zero_grad()
    tokens = {name: rows.to(device) for name, rows in batch().items()}
    with passes:
        outputs = made.model(**tokens, fused_lm_head=True)
        outputs.log_probs.square().sum().backward()
    weights = [p for p in made.model.parameters() if p.requires_grad]
    return outputs, torch.cat([p.grad.flatten() for p in weights])


@pytest.mark.parametrize("pairs", [False, True])
def test_figures_and_gradients_are_those_of_plain_passes(pairs):
    made = trainer(LlamaConfig(**SMALL))
    plain, expected = outcome(made, contextlib.nullcontext())
    trimmed, gradient = outcome(made, lean(made.model, pairs=pairs))
    for name in ("log_probs", "entropy", "mean_logits", "is_top1", "label_mask"):
        known = plain.label_mask
        assert trimmed[name].shape == plain[name].shape, name
        torch.testing.assert_close(trimmed[name][known], plain[name][known], atol=1e-5, rtol=1e-5)
        assert not trimmed[name][~known].any(), name
    torch.testing.assert_close(trimmed.loss, plain.loss)
    torch.testing.assert_close(gradient, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("pairs", [False, True])
def test_the_output_head_sees_labelled_tokens_alone(pairs):
    made, shapes = trainer(LlamaConfig(**SMALL)), []
    backbone = made.model.get_base_model().base_model
    with lean(made.model, pairs=pairs):
        ours = backbone.forward

        def seen(*args, **options):
            outputs = ours(*args, **options)
            shapes.append(tuple(outputs.last_hidden_state.shape))
            return outputs

        with swapped(backbone, "forward", seen):
            made.model(**batch(), fused_lm_head=True)
    labelled = sum(len(chosen) + len(rejected) for _, chosen, rejected in PAIRS)
    assert shapes == [(1, labelled, SMALL["hidden_size"])]


def tokens_read(config, *, pairs=True):
    made = trainer(config)
    shapes = []
    backbone = made.model.get_base_model().base_model
    backbone.layers[0].register_forward_pre_hook(lambda _, args: shapes.append(args[0].shape[:2]))
    with lean(made.model, pairs=pairs):
        made.model(**batch(), fused_lm_head=True)
    return shapes[-1].numel()


def test_a_pair_is_read_as_one_row():
    assert tokens_read(LlamaConfig(**SMALL), pairs=False) == 4 * 8
    assert tokens_read(LlamaConfig(**SMALL)) == 2 * 11


@pytest.mark.parametrize(
    "config",
    [
        LlamaConfig(**SMALL, attn_implementation="eager"),
        MistralConfig(**SMALL, sliding_window=4, num_key_value_heads=4),
        MixtralConfig(**SMALL, num_key_value_heads=4, num_local_experts=2),
    ],
    ids=["attention without boolean masks", "sliding window", "mixture of experts"],
)
def test_what_may_not_branch_is_read_row_by_row(config):
    assert tokens_read(config) == 4 * 8


@pytest.mark.parametrize("ignored", ["attention_mask", "position_ids"])
def test_a_backbone_that_reads_branches_wrongly_is_found_out(ignored):
    made = trainer(LlamaConfig(**SMALL)).model.get_base_model()
    assert lean_training._pair_reader(made)
    plain = made.base_model.forward

    def careless(*args, **options):
        return plain(*args, **{k: v for k, v in options.items() if k != ignored})

    made.base_model.forward = careless
    assert not lean_training._pair_reader(made)


def test_a_backbone_without_positions_is_left_alone():
    made = trainer(LlamaConfig(**SMALL)).model.get_base_model()
    plain = made.base_model.forward
    made.base_model.forward = lambda input_ids, attention_mask, use_cache: plain(
        input_ids=input_ids, attention_mask=attention_mask, use_cache=use_cache
    )
    assert not lean_training._pair_reader(made)


def test_learned_positions_branch_too():
    config = GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=4, bos_token_id=1)
    assert lean_training._pair_reader(AutoModelForCausalLM.from_config(config).eval())


def test_passes_are_plain_again_afterwards():
    made = trainer(LlamaConfig(**SMALL))
    base = made.model.get_base_model()
    before = (base.forward, base.base_model.forward)
    with pytest.raises(KeyError), lean(made.model, pairs=True):
        raise KeyError
    assert (base.forward, base.base_model.forward) == before
