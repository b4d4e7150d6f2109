"""Fits a discriminator to labelled prompts, and calibrates it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor, nn

from apc_cli.errors import ApcError
from apc_cli.models.devices import sound_gradients
from apc_cli.models.judging.discriminator import Discriminator
from apc_cli.prompts import Prompt
from apc_cli.records import SURE_FROM

Progress = Callable[[int, int, float], None]
"""Called after each step with (steps done, steps in all, loss)."""

_FEWEST_ROWS = 100


@dataclass(frozen=True)
class LabelledPrompt:
    """A prompt and, for each of its branches, the target P(label): (branches, labels).

    `weights` (branches,) says how much each branch counts in training; without it, all alike.
    """

    prompt: Prompt
    targets: np.ndarray
    weights: np.ndarray | None = None


@dataclass(frozen=True)
class FitSettings:
    """How to fit: passes over the data, AdamW's peak learning rate, prompts a step."""

    epochs: float = 1
    learning_rate: float = 1e-5
    batch_size: int = 8
    warmup: float = 0.06
    seed: int = 0


def fit(
    discriminator: Discriminator,
    examples: Sequence[LabelledPrompt],
    settings: FitSettings,
    progress: Progress | None = None,
) -> None:
    """Minimises the weighted mean cross entropy to the targets over all branches, in place.

    Raises:
        ApcError: the loss or its gradients became NaN.
    """
    network = discriminator.network
    parameters = network.parameters()
    optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=0.01)
    costs = [network.cost(example.prompt) for example in examples]
    batches = _batches(costs, settings)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, _triangle(len(batches), settings.warmup)
    )
    network.model.train()
    for step, batch in enumerate(batches, start=1):
        with sound_gradients():
            loss = _loss(discriminator, [examples[i] for i in batch])
            loss.backward()
        steepness = nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        value = loss.item()
        if not np.isfinite([value, steepness.item()]).all():
            raise ApcError(
                f"training diverged at step {step}: the loss is {value}, its gradient {steepness}",
                "lower discriminators.learning_rate",
            )
        if progress:
            progress(step, len(batches), value)
    network.model.eval()


def predict(
    discriminator: Discriminator, examples: Sequence[LabelledPrompt]
) -> tuple[np.ndarray, np.ndarray]:
    """(targets, probabilities), each (branches of all examples, labels)."""
    found = discriminator.prompt_probabilities([example.prompt for example in examples])
    return np.concatenate([example.targets for example in examples]), np.concatenate(found)


def calibration(
    targets: np.ndarray,
    probabilities: np.ndarray,
    before: tuple[float, float] = (1.0, SURE_FROM),
) -> tuple[float, float]:
    """(temperature, sure_from) by rows (rows, labels) that a judge of temperature 1 did not see.

    As `before` with fewer than 100 rows, which tell too little.
    """
    if len(targets) < _FEWEST_ROWS:
        return before
    temperature = best_temperature(targets, probabilities)
    return temperature, confidence_for(targets, rescaled(probabilities, temperature))


def best_temperature(targets: np.ndarray, probabilities: np.ndarray) -> float:
    """The temperature that minimises cross entropy on held-out rows, between 0.2 and 5."""
    logits = np.log(np.clip(probabilities, 1e-9, 1))

    def cross_entropy(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        log_norm = np.logaddexp.reduce(scaled, axis=1, keepdims=True)
        return float(-(targets * (scaled - log_norm)).sum(1).mean())

    found = minimize_scalar(cross_entropy, bounds=(np.log(0.2), np.log(5)), method="bounded")
    return float(np.exp(found.x))


def confidence_for(targets: np.ndarray, probabilities: np.ndarray, right: float = 0.95) -> float:
    """The lowest confidence from which on that share of held-out rows is right: (rows, labels).

    1 when not even the surest verdicts are right so often.
    """
    confidence, correct = probabilities.max(1), targets.argmax(1) == probabilities.argmax(1)
    enough = [
        level
        for level in np.unique(confidence)
        if (sure := confidence >= level).sum() >= _FEWEST_ROWS // 2
        and correct[sure].mean() >= right
    ]
    return float(enough[0]) if enough else 1.0


def rescaled(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """The probabilities (rows, labels) that dividing the logits by the temperature gives."""
    powered = np.clip(probabilities, 1e-9, 1) ** (1 / temperature)
    return powered / powered.sum(1, keepdims=True)


def _loss(discriminator: Discriminator, examples: Sequence[LabelledPrompt]) -> Tensor:
    device = discriminator.network.parameters()[0].device
    targets = torch.tensor(np.concatenate([e.targets for e in examples]), device=device).float()
    weights = torch.tensor(np.concatenate([_weights(e) for e in examples]), device=device).float()
    with torch.autocast(device.type, torch.bfloat16, enabled=discriminator.trains_in_bf16):
        logits = discriminator.network.logits([example.prompt for example in examples])
    losses = -(targets * torch.log_softmax(logits.float(), dim=-1)).sum(1)
    return (losses * weights).sum() / weights.sum()


def _weights(example: LabelledPrompt) -> np.ndarray:
    return np.ones(len(example.targets)) if example.weights is None else example.weights


def _batches(costs: Sequence[int], settings: FitSettings) -> list[list[int]]:
    """Shuffled batches of `epochs` passes (a fraction of a pass is allowed), of like cost inside.

    Prompts are sorted by cost within blocks of many batches, so that little is padding.
    """
    generator = np.random.default_rng(settings.seed)
    order: list[int] = []
    wanted = round(settings.epochs * len(costs))
    while len(order) < wanted:
        order += generator.permutation(len(costs)).tolist()
    size, block = settings.batch_size, settings.batch_size * 32
    batches = []
    for start in range(0, wanted, block):
        alike = sorted(order[start : min(start + block, wanted)], key=lambda i: costs[i])
        batches += [alike[i : i + size] for i in range(0, len(alike), size)]
    return [batches[i] for i in generator.permutation(len(batches))]


def _triangle(steps: int, warmup: float) -> Callable[[int], float]:
    """Linear warm-up to 1, then linear decay to 0."""
    rise = max(1, round(steps * warmup))
    return lambda step: min((step + 1) / rise, max(0.0, (steps - step) / max(1, steps - rise)))
