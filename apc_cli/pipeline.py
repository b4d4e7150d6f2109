"""The stage graph: which artifact each stage reads and writes, what is fresh, and in what order.

    wiki → statements → queries → label-data → train-discriminators
                              └→ (experience → warm-up) → build-dpo → dpo → evaluation
                                                        └→ grpo ──────↑

A stage is fresh when the content of its inputs, the configuration it depends on and its own version
are those of its manifest entry, and its outputs are still as it wrote them.
"""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from apc_cli.config import Configuration
from apc_cli.errors import DataError
from apc_cli.models.references import outline
from apc_cli.records import Summary
from apc_cli.workspace import Workspace, digest, fingerprint


@dataclass(frozen=True)
class Stage:
    """One node of the graph; `keys` are the dotted configuration keys that decide its result.

    Raising `version` makes every earlier result of the stage stale.
    """

    name: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    keys: tuple[str, ...]
    version: int = 1


@dataclass(frozen=True)
class Planned:
    """A stage that will run, and why; it only may run when nothing but an input may change."""

    stage: Stage
    reasons: tuple[str, ...]
    certain: bool = True


Runner = Callable[[Stage, str], Summary]
"""Runs a stage, given its fingerprint."""


class Pipeline:
    """A character's stages over one workspace; `sources` are input files outside of it.

    `checkpoints` are directories of weights. Hashing gigabytes at every plan would take too long:
    they count as changed when a file of theirs has another name, size or time.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        config: Configuration,
        workspace: Workspace,
        sources: dict[str, Path],
        checkpoints: dict[str, Path],
    ) -> None:
        self.stages = {stage.name: stage for stage in stages}
        self.config, self.workspace = config, workspace
        self.sources, self.checkpoints = sources, checkpoints
        self._writer = {name: stage for stage in stages for name in stage.writes}

    def needed(self, target: str) -> list[Stage]:
        """The target and all stages it depends on, inputs first."""
        order: dict[str, Stage] = {}

        def visit(stage: Stage) -> None:
            for name in stage.reads:
                if name in self._writer:
                    visit(self._writer[name])
            order.setdefault(stage.name, stage)

        visit(self.stages[target])
        return list(order.values())

    def plan(self, target: str, *, force: Collection[str] = ()) -> list[Planned]:
        """The stages that would run now, and those after them that may have to."""
        planned: list[Planned] = []
        changing: set[str] = set()
        for stage in self.needed(target):
            known = self.stale(stage)
            if stage.name in force:
                known.append("--force")
            reasons = [*known, *(f"{name} may change" for name in stage.reads if name in changing)]
            if reasons:
                planned.append(Planned(stage, tuple(reasons), certain=bool(known)))
                changing.update(stage.writes)
        return planned

    def stale(self, stage: Stage) -> list[str]:
        """Why the stage's artifacts cannot be used as they are; nothing when they can.

        Raises:
            DataError: an artifact was edited by hand.
        """
        entry = self.workspace.manifest().get(stage.name)
        if entry is None:
            return ["not built yet"]
        reasons = list(self._changes(stage, entry))
        if retry := entry.get("retry"):
            reasons.append(f"{retry} items failed for a passing reason")
        for name, known in entry["outputs"].items():
            found = self.workspace.digest(name)
            if found is None:
                reasons.append(f"{name} is missing")
            elif found != known and not reasons:
                raise DataError(
                    f"{self.workspace.path(name)} was changed by hand",
                    "delete it to build it again; to keep your own statements, copy the file and "
                    "name it in persona.statements",
                )
        return reasons

    def run(
        self,
        target: str,
        runner: Runner,
        *,
        force: Collection[str] = (),
        started: Callable[[Planned], None] = lambda planned: None,
    ) -> Iterator[tuple[Stage, Summary, float]]:
        """Builds the target; yields each stage that ran, its summary and its seconds.

        Freshness is asked again before each stage: an input that was built anew with the same
        content leaves what follows it as it is.
        """
        for stage in self.needed(target):
            reasons = self.stale(stage)
            if stage.name in force:
                reasons.append("--force")
            if not reasons:
                continue
            started(Planned(stage, tuple(reasons)))
            begin = time.monotonic()
            facts = self._facts(stage)
            for name in self._writers_of(stage):
                self.workspace.forget(name)
            summary = runner(stage, fingerprint(facts))
            seconds = time.monotonic() - begin
            self.workspace.record(stage.name, self._entry(stage, facts, summary, seconds))
            yield stage, summary, seconds

    def _facts(self, stage: Stage) -> dict[str, Any]:
        """Everything that decides the stage's result."""
        return {
            "inputs": {name: self._input_digest(name) for name in stage.reads},
            "config": {key: self.config.value(key) for key in stage.keys},
            "version": stage.version,
        }

    def _writers_of(self, stage: Stage) -> list[str]:
        """The stage, and any that another configuration has write the same artifacts."""
        return [
            name
            for name, entry in self.workspace.manifest().items()
            if name == stage.name or set(stage.writes) & entry["outputs"].keys()
        ]

    def _input_digest(self, name: str) -> str | None:
        if name in self.checkpoints:
            return outline(self.checkpoints[name])
        return digest(self.sources[name]) if name in self.sources else self.workspace.digest(name)

    def _changes(self, stage: Stage, entry: dict[str, Any]) -> Iterator[str]:
        facts = self._facts(stage)
        for name, found in facts["inputs"].items():
            if entry["inputs"].get(name) != found:
                yield f"{self.sources.get(name, name)} changed"
        for key, value in facts["config"].items():
            if entry["config"].get(key) != value:
                yield f"{key} changed"
        for part in ("inputs", "config"):
            yield from (
                f"{name} is no longer used" for name in entry[part] if name not in facts[part]
            )
        if entry["version"] != facts["version"]:
            yield "apc makes it in a new way"

    def _entry(
        self, stage: Stage, facts: dict[str, Any], summary: Summary, seconds: float
    ) -> dict[str, Any]:
        return facts | {
            "fingerprint": fingerprint(facts),
            "outputs": {name: self.workspace.digest(name) for name in stage.writes},
            "kept": summary.kept,
            "dropped": summary.dropped,
            "cost": summary.cost,
            "retry": summary.retry,
            "seconds": round(seconds, 1),
            "versions": {name: version(name) for name in ("apc-cli", "torch", "transformers")},
        }
