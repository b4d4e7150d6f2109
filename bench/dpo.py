"""DPO on random preference pairs, by the public recipe and by ours; bench/train.py runs them."""

import random
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
import trl
from datasets import Dataset
from random_models import random_player
from transformers import TrainerCallback

from apc_cli.models import ranks
from apc_cli.models.adapters import add_lora
from apc_cli.models.playing.role_player import RolePlayer
from apc_cli.models.training.preference import PreferenceSettings, fit_preferences
from apc_cli.records import PreferencePair

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
PROMPT, REPLY, RANK = 150, 100, 128


@dataclass(frozen=True)
class Trained:
    """What one way to train took; `each` is milliseconds a pair in its second half."""

    way: str
    pairs: int
    seconds: float
    each: float
    peak_gib: float

    def __str__(self) -> str:
        return (
            f"{self.way:44} {self.each:7.1f} ms a pair {self.peak_gib:6.1f} GiB "
            f"({self.pairs} pairs, {self.seconds:.1f} s in all)"
        )


class Clock(TrainerCallback):
    """When training began and when each step ended."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.times = [time.perf_counter()]

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        self.times.append(time.perf_counter())

    def each(self, pairs: int) -> float:
        """Milliseconds a pair, over the steps of the second half."""
        late = self.times[(len(self.times) - 1) // 2 :]
        return 1000 * (late[-1] - late[0]) / (len(late) - 1) / pairs


class Quiet:
    """A progress that keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def task(self, title: str, total: int) -> "Quiet":
        return self

    def __enter__(self) -> "Quiet":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def advance(self, steps: int = 1, note: str = "") -> None:
        pass

    def say(self, text: str) -> None:
        self.said.append(text)


def preference_pairs(player: RolePlayer, count: int) -> list[PreferencePair]:
    """Pairs of random words: so many tokens in each prompt, template and all, and in each reply."""
    draw = random.Random(0)
    vocabulary = player.tokenizer.get_vocab()
    words = sorted(word[1:] for word in vocabulary if word.isascii() or word[1:].isalpha())
    words = [word for word in words if word.isalpha() and word.islower()]
    words = [w for w in words if "Ġ" + w in vocabulary]

    def text(tokens: int) -> str:
        return "".join(f" {word}" for word in draw.choices(words, k=tokens))

    def turn(role: str, tokens: int) -> dict[str, str]:
        return {"role": role, "content": text(tokens)}

    frame = player.count_tokens([turn("user", 50)]) - 50
    return [
        PreferencePair(
            [turn("user", PROMPT - frame)],
            [turn("assistant", REPLY - 2)], [turn("assistant", REPLY - 2)], 1.0, 0.0,
        )
        for _ in range(count)
    ]  # fmt: skip


def adapted(shape: str, *, nf4: bool) -> RolePlayer:
    player = random_player(shape, DEVICE, nf4=nf4)
    player.model = add_lora(player.model, rank=RANK, alpha=8, task="CAUSAL_LM")
    return player


def public_recipe(shape: str, pairs: int, *, nf4: bool, kind: str) -> Trained:
    """trl's DPOTrainer on peft with their defaults.

    One pair at once, activations recomputed, the reference computed in each step.
    """
    player = adapted(shape, nf4=nf4)
    rows = [
        {"prompt": list(p.prompt), "chosen": list(p.chosen), "rejected": list(p.rejected)}
        for p in preference_pairs(player, pairs)
    ]
    with tempfile.TemporaryDirectory() as folder:
        config = trl.DPOConfig(
            output_dir=folder, per_device_train_batch_size=1, num_train_epochs=1,
            learning_rate=2e-4, beta=0.1, bf16=DEVICE == "cuda", use_cpu=DEVICE == "cpu",
            save_strategy="no", report_to="none", disable_tqdm=True,
        )  # fmt: skip
        clock = Clock()
        trainer = trl.DPOTrainer(
            model=player.model, args=config, train_dataset=Dataset.from_list(rows),
            processing_class=player.tokenizer, callbacks=[clock],
        )  # fmt: skip
        _reset()
        started = time.perf_counter()
        trainer.train()
        return Trained(f"public recipe, {kind}", pairs, _since(started), clock.each(1), _peak())


def ours(shape: str, pairs: int, epochs: float, *, nf4: bool, kind: str, batch: int = 8) -> Trained:
    """`fit_preferences` with the paper's settings, and all that it does before and after.

    Processes that train together share the pairs of a step, and give the same figures.
    """
    player = adapted(shape, nf4=nf4)
    settings = PreferenceSettings(
        beta=0.1, epochs=epochs, learning_rate=2e-4, batch_size=batch, micro_batch_size=None,
        sft_weight=0.0, seed=0,
    )  # fmt: skip
    clock, progress = Clock(), Quiet()
    add = transformers.Trainer.__init__

    def with_clock(self: Any, *args: Any, **options: Any) -> None:
        add(self, *args, **options)
        self.add_callback(clock)

    transformers.Trainer.__init__ = with_clock
    try:
        with tempfile.TemporaryDirectory() as folder:
            rows = preference_pairs(player, pairs)
            _reset()
            started = time.perf_counter()
            fit_preferences(player, rows, settings, Path(ranks.first(folder)), progress)
            spent = _since(started)
    finally:
        transformers.Trainer.__init__ = add
    for line in progress.said if not ranks.own() else ():
        print(f"    {line}")
    return Trained(f"ours, {kind}", round(pairs * epochs), spent, clock.each(batch), _peak())


def _reset() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()


def _since(started: float) -> float:
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _peak() -> float:
    return torch.cuda.max_memory_allocated() / 2**30 if DEVICE == "cuda" else float("nan")
