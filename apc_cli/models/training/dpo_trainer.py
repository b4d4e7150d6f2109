"""trl's DPO trainer, with references computed once and kept as two numbers a pair.

trl hashes the whole model to name a cache file for them, and keeps a frozen copy of the adapter
until the end: for a 7B model half a minute, and as much memory as the adapter takes.
"""

from collections.abc import Sequence
from typing import Any

from datasets import Dataset
from trl import DPOTrainer

from apc_cli.models import ranks

_COLUMNS = ("ref_chosen_logps", "ref_rejected_logps")


class LeanDpoTrainer(DPOTrainer):
    """Trains against the adapter as it came; `precompute_ref_log_probs` of its arguments is off."""

    def add_references(self) -> None:
        """Adds the reference's log-probabilities to the rows that have none.

        Processes share the work. To be called while passes are lean.
        """
        size = self.args.per_device_train_batch_size
        self.train_dataset = self._with_references(self.train_dataset, size)
        if self.eval_dataset is not None:
            size = self.args.per_device_eval_batch_size
            self.eval_dataset = self._with_references(self.eval_dataset, size)
        self.precompute_ref_logps = True
        if "ref" in self.model.peft_config:
            self.model.delete_adapter("ref")

    def _with_references(self, rows: Dataset, size: int) -> Dataset:
        if set(_COLUMNS) <= set(rows.column_names):
            return rows
        mine: list[Any] = []
        for start in _shared_out(range(0, len(rows), size)):
            batch = self.data_collator(
                [rows[i] for i in range(start, min(start + size, len(rows)))]
            )
            found = self.compute_ref_log_probs(self.model, self._prepare_inputs(batch))
            mine.append((start, [side.float().tolist() for side in found]))
        batches = dict(batch for share in ranks.gathered(mine) for batch in share)
        for place, name in enumerate(_COLUMNS):
            values = [value for start in sorted(batches) for value in batches[start][place]]
            rows = rows.add_column(name, values)
        return rows


def _shared_out(starts: Sequence[int]) -> list[int]:
    """This process's share; all have as many, since those of a sharded model wait for each other.

    Where nothing is left for some, they repeat the last.
    """
    padded = [*starts, *list(starts[-1:]) * (-len(starts) % ranks.count())]
    return padded[ranks.own() :: ranks.count()]
