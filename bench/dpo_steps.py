"""Milliseconds a pair and peak memory of DPO steps, one way of training after another, in one run.

    python bench/dpo_steps.py                    # a GPU: Gemma-7B's shape, random weights
    python bench/dpo_steps.py --nf4              # the same in 4 bits
    python bench/dpo_steps.py --profile          # and the kernels of a step
    python bench/dpo_steps.py --shape tiny       # a smoke test anywhere

A step is trl's loss, backward pass, clipping and AdamW. The public recipe reads one or two pairs,
computes the reference each time and recomputes activations. What makes ours fast is added bit by
bit.
"""

import argparse
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from datasets import Dataset
from dpo import DEVICE, PROMPT, RANK, REPLY
from random_models import SHAPES, random_player
from trl import DPOConfig, DPOTrainer

from apc_cli.models.adapters import add_lora
from apc_cli.models.training import lean_training, packed_pairs, trainers
from apc_cli.models.training.fused_layers import fused_layers
from apc_cli.models.training.fused_lora import fused_lora
from apc_cli.models.training.lean_training import LeanPasses, lean
from apc_cli.models.training.swapping import swapped

PAIRS = 8


@dataclass(frozen=True)
class Way:
    """How passes are made: `None` in `passes` is trl alone."""

    name: str
    passes: tuple[str, ...] | None = ("lean",)
    pairs: int = PAIRS
    recompute: bool = False
    reference: bool = False


WAYS = (
    Way("public recipe, one pair", None, 1, True, True),
    Way("public recipe, two pairs", None, 2, True, True),
    Way("prompts read once (masks), one pair", ("masked",), 1, True),
    Way("prompts read once (masks)", ("masked",)),
    Way("  + fused LoRA", ("masked", "lora")),
    Way("  + fused LoRA, fused layers", ("masked", "lora", "layers")),
    Way("packed, fused LoRA", ("packed", "lora")),
    Way("ours"),
    Way("ours, activations recomputed", recompute=True),
    Way("ours, four pairs", pairs=4),
    Way("ours, one pair", pairs=1),
)


class Tokenised(DPOTrainer):
    """Takes rows of token ids."""

    def _prepare_dataset(self, dataset: Dataset, *others: Any) -> Dataset:
        return dataset


def trainer(player: Any) -> tuple[DPOTrainer, list[dict[str, Any]]]:
    """A trainer, and rows of random tokens."""
    draw = torch.Generator().manual_seed(1)
    sizes = {"prompt_ids": PROMPT, "chosen_ids": REPLY, "rejected_ids": REPLY}
    rows = [
        {key: torch.randint(10, 40_000, (n,), generator=draw).tolist() for key, n in sizes.items()}
        | {"ref_chosen_logps": -100.0, "ref_rejected_logps": -100.0}
        for _ in range(2 * PAIRS)
    ]
    arguments = trainers.common_arguments(
        player, "/tmp/apc-bench", epochs=1, learning_rate=1e-5, seed=0, recompute=False
    )
    made = Tokenised(
        model=player.model, args=DPOConfig(**arguments), train_dataset=Dataset.from_list(rows),
        processing_class=player.tokenizer,
    )  # fmt: skip
    return made, rows


@contextmanager
def passes(model: Any, names: tuple[str, ...] | None) -> Iterator[None]:
    """The training passes of a way."""
    base = model.get_base_model()
    with ExitStack() as stack:
        if names == ("lean",):
            stack.enter_context(lean(model, pairs=True))
        elif names:
            if "layers" in names:
                stack.enter_context(fused_layers(base))
            if "lora" in names:
                stack.enter_context(fused_lora(base))
            packed = "packed" in names
            made = LeanPasses(base, lean_training._packed if packed else lean_training._masked)
            if packed:
                stack.enter_context(packed_pairs.attending(base))
            stack.enter_context(swapped(base, "forward", made.of_model))
            stack.enter_context(swapped(base.base_model, "forward", made.of_backbone))
        yield


def measure(
    made: DPOTrainer, rows: list[dict[str, Any]], way: Way, optimiser: Any, repeat: int
) -> tuple[float, float]:
    """(milliseconds a pair, peak GiB)."""
    model, weights = made.model, optimiser.param_groups[0]["params"]
    made.precompute_ref_logps = not way.reference
    base = model.get_base_model()
    if way.recompute:
        base.gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    batches = [made.data_collator(rows[i : i + way.pairs]) for i in range(0, PAIRS, way.pairs)]
    batches = [made._prepare_inputs(batch) for batch in batches]
    try:
        with passes(model, way.passes):
            for number in range(repeat + 2):
                if number == 2:
                    started = _synchronised()
                with made.accelerator.autocast():
                    loss = made.compute_loss(model, dict(batches[number % len(batches)]))
                loss.backward()
                torch.nn.utils.clip_grad_norm_(weights, 1.0)
                optimiser.step()
                optimiser.zero_grad()
            spent = _synchronised(reset=False) - started
    finally:
        base.gradient_checkpointing_disable()
        optimiser.zero_grad()
    peak = torch.cuda.max_memory_allocated() / 2**30 if DEVICE == "cuda" else float("nan")
    return 1000 * spent / repeat / way.pairs, peak


def _synchronised(*, reset: bool = True) -> float:
    if DEVICE == "cuda":
        torch.cuda.synchronize()
        if reset:
            torch.cuda.reset_peak_memory_stats()
    return time.perf_counter()


def kernels(made: DPOTrainer, rows: list[dict[str, Any]], optimiser: Any) -> None:
    """Prints the kernels that a step of ours spends its time in."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiled:
        measure(made, rows, Way("ours"), optimiser, 1)
    spent = sorted(profiled.key_averages(), key=lambda e: -e.self_device_time_total)
    total = sum(event.self_device_time_total for event in spent)
    print(f"three steps: {total / 1000:.1f} ms in kernels")
    for event in spent[:30]:
        print(f"{event.self_device_time_total / 1000:8.2f} ms {event.count:6d} {event.key[:80]}")


def main() -> None:
    """Prints a line for each way."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--shape", choices=sorted(SHAPES), default="gemma-7b")
    parser.add_argument("--nf4", action="store_true")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--repeat", type=int, default=6)
    options = parser.parse_args()
    name = torch.cuda.get_device_name() if DEVICE == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}, transformers {transformers.__version__}")
    player = random_player(options.shape, DEVICE, nf4=options.nf4)
    player.model = add_lora(player.model, rank=RANK, alpha=8, task="CAUSAL_LM")
    made, rows = trainer(player)
    weights = [weight for weight in player.model.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=1e-5, fused=DEVICE == "cuda")
    for way in WAYS:
        if not way.reference and "ref" in made.model.peft_config:
            made.model.delete_adapter("ref")
        each, peak = measure(made, rows, way, optimiser, options.repeat)
        print(f"{way.name:40} {each:8.1f} ms a pair {peak:6.1f} GiB", flush=True)
    if options.profile and DEVICE == "cuda":
        kernels(made, rows, optimiser)


if __name__ == "__main__":
    main()
