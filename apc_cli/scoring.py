"""`apc score` over files: which pair and which statements, streams in and out, the summary."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO

from rich.table import Table

from apc_cli import jsonl
from apc_cli.config import load_config
from apc_cli.errors import ApcError, ConfigError
from apc_cli.progress import Progress
from apc_cli.records import Statement
from apc_cli.reports.console import table
from apc_cli.steps import score
from apc_cli.workshop import Workshop
from apc_cli.workspace import Workspace


class ScoreCommand:
    """Scores one file by the evaluator pair of the profile or of the character."""

    def __init__(self, shop: Workshop, who: str | None, root: Path) -> None:
        """`who` speaks in rows that name no character; `root` is the workspace of all of them."""
        self._shop, self._who, self._root = shop, who, root
        self._statements: dict[str, list[str]] = {}

    def run(self, file: str, output: str, *, explain: bool) -> score.Totals:
        """Validates all rows, loads the pair, then streams."""
        name = "stdin" if file == "-" else file
        with opened(file) as source:
            rows = score.validate(source, name)
            scorer = self._shop.evaluator
            with _sink(output) as sink:
                return score.run(
                    source, name, sink, scorer, self._who, self._statements_of, rows,
                    self._shop.progress, explain=explain,
                )  # fmt: skip

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
        sure = 1 - totals.unsure / max(1, totals.statements)
        rows.append(["verdicts the judges are sure of", f"{sure:.0%}"])
        rows += [[f"not scored: {why}", str(count)] for why, count in totals.errors.items()]
        return table("APC", ["", ""], rows)

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


def any_character(
    profile: str, settings: tuple[str, ...], root: Path, progress: Progress
) -> Workshop:
    """A workshop of the profile for rows that bring their own characters."""
    settings = ("character=the character", *settings)
    nobody = Path(__file__).parent / "profiles" / f"{profile}.yaml"
    config = load_config(None, file=nobody, profile=profile, settings=settings)
    return Workshop(config, Workspace(root, config.character.character), progress, Path("."))


@contextmanager
def opened(file: str) -> Iterator[BinaryIO]:
    """The rows as a file that can be read twice; stdin is kept in a temporary file."""
    if file != "-":
        with jsonl.open_source(Path(file)) as source:
            yield source
        return
    with jsonl.copied(sys.stdin.buffer) as copy:
        yield copy


@contextmanager
def _sink(output: str) -> Iterator[TextIO]:
    """Stdout, a device such as /dev/null, or a file that is there only once it is whole."""
    if output == "-":
        sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
        yield sys.stdout
        return
    path = Path(output)
    device = path.exists() and not path.is_file()
    partial = path if device else path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        with partial.open("w", encoding="utf-8") as sink:
            yield sink
        partial.replace(path)
    except OSError as error:
        raise ApcError(
            f"cannot write {path}: {error.strerror or error}", "choose another -o"
        ) from None
    finally:
        if not device:
            partial.unlink(missing_ok=True)
