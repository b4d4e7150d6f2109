"""`apc score` over files: which pair and which statements, streams in and out, the summary."""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from rich.table import Table

from apc_cli.config import load_config
from apc_cli.errors import ConfigError, DataError
from apc_cli.evaluators import measured_by_llm, verdict_facts
from apc_cli.files.row_files import opened
from apc_cli.files.scored_files import Partial, check_format, describe, sink
from apc_cli.progress import Progress
from apc_cli.records import Item, Statement
from apc_cli.reports.console import table
from apc_cli.steps import score
from apc_cli.workshop import Workshop
from apc_cli.workspace import Workspace

if TYPE_CHECKING:
    from apc_cli.models.judging.engines import Recipe, Scored, Shard


@dataclass(frozen=True)
class Spread:
    """Over what the work is spread: GPUs of this machine, processes, or a Ray cluster."""

    engine: Literal["local", "ray"] = "local"
    gpus: int = 0
    workers: int = 1


class ScoreCommand:
    """Scores one file by the evaluator pair of the profile or of the character."""

    def __init__(
        self, shop: Workshop, who: str | None, root: Path, spread: Spread, nearest: float = 1.0
    ) -> None:
        """`who` speaks in rows that name no character; `root` is the workspace of all of them.

        `nearest` is the share of each row's statements that is judged.
        """
        self._shop, self._who, self._root, self._spread = shop, who, root, spread
        self._nearest = nearest
        self._by_llm = measured_by_llm(shop.character)
        if self._by_llm and (spread != Spread() or nearest < 1):
            raise ConfigError(
                "--gpus, --workers, --engine and --nearest are for discriminators",
                "leave them out, or score without evaluator.backend: openai",
            )
        self._statements: dict[str, list[str]] = {}

    def run(
        self, file: str, output: str, *, explain: bool, skip_bad: Path | None = None
    ) -> score.Totals:
        """Validates all rows, loads the pair, then streams; goes on where a killed run was."""
        check_format(output)
        with opened(file) as files, _rejects(skip_bad) as rejects:
            rows = score.Rows(files, rejects.add)
            count = rows.check()
            if rows.unnamed and self._who is None:
                named = "1 row names" if rows.unnamed == 1 else f"{rows.unnamed} rows name"
                self._shop.progress.say(
                    f"warning: {named} no character: their speaker is judged as "
                    '"the character", not as whom the statements name; add "character" to them'
                )
            if self._by_llm:
                resolved = (item for item in map(self._resolved, rows) if item.error is None)
                for line in self._shop.scoring_estimate(resolved):
                    self._shop.progress.say(line)
            run = lambda: self._run_name([f.digest() for f in files], explain)  # noqa: E731
            try:
                with sink(output, run) as target:
                    now = time.time()
                    before = target.note("cache", now) if isinstance(target, Partial) else now
                    engine = self._engine(explain, before, output)
                    totals = score.run(
                        rows, count, self._resolved, engine, target, self._shop.progress
                    )
            except OSError as error:
                raise describe(error, output) from None
        if rejects.count:
            totals.errors[f"no row, see {skip_bad}"] = rejects.count
        return totals

    def summary(self, totals: score.Totals) -> Table:
        """The means over scored rows, and why others were not."""
        rows = [["rows scored", f"{totals.scored} of {totals.rows}"]]
        rows += [
            [f"mean {title}", f"{totals.mean(key):.4f}"]
            for key, title in (
                ("score", "APC score"),
                ("delta", "ΔAPC"),
                ("active_reward", "active reward"),
                ("passive_penalty", "passive penalty"),
            )
        ]
        rows.append(["mean statements", f"{totals.statements / max(1, totals.scored):.1f}"])
        sure = (totals.statements - totals.unsure) / max(1, totals.judged or totals.statements)
        rows.append(["verdicts the judges are sure of", f"{sure:.0%}"])
        if totals.judged:
            share = totals.judged / max(1, totals.statements)
            rows.append(["statements judged (--nearest)", f"{share:.1%}"])
        if totals.truncated:
            rows.append(["inputs cut: longer than a judge reads", str(totals.truncated)])
        rows += [[f"not scored: {why}", str(count)] for why, count in totals.errors.items()]
        return table("APC", ["", ""], rows)

    def _recipe(self, explain: bool, before: float) -> "Recipe":
        from apc_cli.models.judging.engines import Recipe

        pair, language = self._shop.character.evaluator, self._shop.character.language
        weights = self._shop.weights if self._who else self._shop.character.persona.weights
        return Recipe(
            pair.relevance, pair.nli, language, explain, before, self._nearest,
            tuple(weights.items()),
        )  # fmt: skip

    def _engine(
        self, explain: bool, before: float, output: str
    ) -> Callable[[Iterable["Shard"]], Iterator["Scored"]]:
        from apc_cli.models.devices import pick_device
        from apc_cli.models.judging import engines
        from apc_cli.models.judging.ray_engine import on_ray

        if self._by_llm:
            return engines.one_by_one(self._shop.evaluator, explain)
        recipe = self._recipe(explain, before)
        device, spread = pick_device(self._shop.character.device), self._spread
        if spread.engine == "ray":
            place = Path(output).parent if output != "-" else Path.cwd()
            spool = place / f".{Path(output).name}.spool"
            workers = max(spread.gpus, spread.workers)
            return on_ray(recipe, workers, device.type, spool)
        if spread.gpus:
            return engines.in_processes(recipe, engines.gpus(spread.gpus))
        if spread.workers > 1:
            return engines.in_processes(recipe, [str(device)] * spread.workers)
        return engines.in_process(recipe, str(device))

    def _run_name(self, digests: list[str], explain: bool) -> str:
        """Tells runs apart whose rows must not be mixed: by input, statements, judges, options."""
        known = sorted(self._root.glob("*/statements.jsonl"))
        personas = [hashlib.sha256(path.read_bytes()).hexdigest() for path in known]
        judges, device = verdict_facts(self._shop.character), self._shop.character.device
        parts = [digests, judges, personas, explain, self._who, device, score.SHARD, self._nearest]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def _resolved(self, row: dict[str, Any]) -> Item:
        return score.resolved(row, self._who, self._statements_of)

    def _statements_of(self, character: str | None) -> list[str]:
        """The statements in the workspace of a character.

        Raises:
            ConfigError: no character is named, or its statements were never made.
        """
        if character is None:
            raise ConfigError("the row has no statements and no character")
        if character not in self._statements:
            place = Workspace(self._root, character)
            if not place.path("statements.jsonl").is_file():
                raise ConfigError(f"no statements of {character} in {place.directory}")
            rows = place.read_rows("statements.jsonl", Statement)
            self._statements[character] = [row.statement for row in rows]
        return self._statements[character]


class _Rejects:
    """What is no row, as JSON Lines in a file; without one, the first is an error."""

    def __init__(self, file: BinaryIO | None) -> None:
        self.count, self._file = 0, file

    def add(self, place: str, error: DataError) -> None:
        if self._file is None:
            raise error
        self.count += 1
        line = json.dumps({"place": place, "error": str(error)}, ensure_ascii=False)
        self._file.write(f"{line}\n".encode("utf-8", "backslashreplace"))


@contextmanager
def _rejects(path: Path | None) -> Iterator[_Rejects]:
    if path is None:
        yield _Rejects(None)
        return
    with path.open("wb") as file:
        yield _Rejects(file)


def any_character(
    profile: str, settings: tuple[str, ...], root: Path, progress: Progress
) -> Workshop:
    """A workshop of the profile for rows that bring their own characters."""
    settings = ("character=the character", *settings)
    nobody = Path(__file__).parents[1] / "profiles" / f"{profile}.yaml"
    config = load_config(None, file=nobody, profile=profile, settings=settings)
    return Workshop(config, Workspace(root, config.character.character), progress, Path("."))
