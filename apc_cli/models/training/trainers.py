"""What SFT and DPO share of transformers' Trainer: arguments, progress, checkpoints."""

import json
import logging
import time
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback
from transformers.trainer_callback import PrinterCallback

from apc_cli.errors import ApcError
from apc_cli.models import ranks
from apc_cli.models.devices import sound_gradients
from apc_cli.models.playing.role_player import RolePlayer
from apc_cli.models.training.sharded_training import adapter_alone
from apc_cli.progress import Progress, Task
from apc_cli.workspace import digest, write_text

COMPLETE = "complete.json"
"""Written into a checkpoint when all of it is on disk, with the digest of every file."""
_LARGE = 2**29
"""Bytes of trained weights from which on checkpoints are written seldom."""
_SELDOM = 300.0
"""Seconds between large checkpoints: a 7B model's takes longer to write than an epoch to train."""


class ReportSteps(TrainerCallback):
    """Passes training steps on to our progress, and seals finished checkpoints."""

    def __init__(self, title: str, task: Task) -> None:
        self.title, self.task = title, task
        self.seen = 0

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Ends a training whose weights have just become NaN: transformers would go on."""
        if not isfinite((logs or {}).get("grad_norm", 0.0)):
            raise ApcError(
                f"{self.title} diverged at step {state.global_step}: its gradients are not finite",
                "lower its learning rate",
            )

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Counts steps, also those that a resumed run skips."""
        loss = next(
            (f"loss {e['loss']:.3f}" for e in reversed(state.log_history) if "loss" in e), ""
        )
        self.task.advance(state.global_step - self.seen, loss)
        self.seen = state.global_step

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Seals the checkpoint once all have written theirs."""
        ranks.gathered(None)
        if ranks.own():
            return
        seal(Path(args.output_dir) / f"checkpoint-{state.global_step}")


class SaveSeldom(TrainerCallback):
    """Leaves out checkpoints that come too soon after the last one."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._last = seconds, time.monotonic()

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Asks the first process, so that all write the same ones."""
        due = time.monotonic() - self._last >= self._seconds
        control.should_save = control.should_save and ranks.first(due)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Counts from when it is written."""
        self._last = time.monotonic()


def seal(checkpoint: Path) -> None:
    """Marks a checkpoint as complete."""
    write_text(checkpoint / COMPLETE, json.dumps(_digests(checkpoint)))


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that is complete and unchanged since it was sealed."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda p: -int(p.name.rsplit("-", 1)[1]))
    return next((path for path in found if _is_complete(path)), None)


def common_arguments(
    player: RolePlayer,
    folder: Path,
    *,
    epochs: float,
    learning_rate: float,
    seed: int,
    recompute: bool | None = None,
) -> dict[str, Any]:
    """Arguments that trl's configurations take alike; unless told, a GPU recomputes activations."""
    on_gpu = player.model.device.type == "cuda"
    return {
        "output_dir": str(folder),
        "num_train_epochs": epochs,
        "learning_rate": learning_rate,
        "max_length": None,  # trl's default would cut a long persona's replies off
        "seed": seed,
        "data_seed": seed,
        "bf16": player.model.dtype == torch.bfloat16 or on_gpu,
        "use_cpu": not on_gpu,
        "gradient_checkpointing": on_gpu if recompute is None else recompute,
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
        "lr_scheduler_type": "linear",
        "logging_steps": 1,
        "logging_strategy": "steps",
        "save_strategy": "epoch",
        "save_total_limit": 2,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": on_gpu,
        "ddp_find_unused_parameters": False,
    }


def best_epoch_arguments(metric: str) -> dict[str, Any]:
    """Measures after each epoch and ends with the epoch where `metric` was highest."""
    return {
        "eval_strategy": "epoch",
        "load_best_model_at_end": True,
        "metric_for_best_model": metric,
        "greater_is_better": True,
        "restore_callback_states_from_checkpoint": True,
    }


def run(trainer: Any, folder: Path, title: str, progress: Progress) -> None:
    """Trains, going on from the last complete checkpoint where there is one.

    Raises:
        ApcError: the training diverged, or changed nothing at all.
    """
    logging.getLogger("transformers").setLevel(logging.ERROR)
    before = _trainable_sum(trainer.model)
    resume = ranks.first(last_checkpoint(folder))
    batches = -(-len(trainer.get_train_dataloader()) // trainer.args.gradient_accumulation_steps)
    total = max(1, int(batches * trainer.args.num_train_epochs))
    trainer.remove_callback(PrinterCallback)
    if not trainer.args.load_best_model_at_end and _trainable_bytes(trainer.model) >= _LARGE:
        trainer.add_callback(SaveSeldom(_SELDOM))
    began = time.monotonic()
    with progress.task(title, total) as task, adapter_alone(trainer.model), sound_gradients():
        trainer.add_callback(ReportSteps(title, task))
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    progress.say(_speed(trainer, title, resume, time.monotonic() - began))
    trainer.model.eval()
    if _trainable_sum(trainer.model) == before:
        raise ApcError(f"{title} changed no weight", "raise the learning rate or the epochs")


def _speed(trainer: Any, title: str, resume: Path | None, seconds: float) -> str:
    """How long a pair or dialogue took, and the most memory that PyTorch held on a GPU."""
    steps = trainer.state.global_step - (int(resume.name.rsplit("-", 1)[1]) if resume else 0)
    args = trainer.args
    rows = steps * args.per_device_train_batch_size * args.gradient_accumulation_steps
    each = 1000 * seconds / max(1, rows * args.world_size)
    spent = f"{title}: {steps} steps in {seconds:.0f} s, {each:.0f} ms a row"
    if trainer.model.device.type != "cuda":
        return spent
    return f"{spent}, {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB at most"


def _trainable_bytes(model: Any) -> int:
    return sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)


def _trainable_sum(model: Any) -> float:
    with torch.no_grad():
        return sum(float(p.double().abs().sum()) for p in model.parameters() if p.requires_grad)


def _digests(checkpoint: Path) -> dict[str, str | None]:
    files = [p for p in checkpoint.rglob("*") if p.is_file() and p.name != COMPLETE]
    return {str(p.relative_to(checkpoint)): digest(p) for p in sorted(files)}


def _is_complete(checkpoint: Path) -> bool:
    try:
        sealed = json.loads((checkpoint / COMPLETE).read_text())
    except (OSError, ValueError):
        return False
    return bool(sealed == _digests(checkpoint))
