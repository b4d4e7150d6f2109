"""What may be wrong before anything is scored: `apc check-judge` and `apc lint`."""

import json
from pathlib import Path
from typing import Any

from apc_cli.errors import ConfigError, DataError
from apc_cli.files.row_files import opened
from apc_cli.steps import check_judge, lint
from apc_cli.workshop import Workshop


def check_judges(
    shop: Workshop, file: str, personas: Path | None, *, reward: bool
) -> dict[str, Any]:
    """The report of `apc check-judge` on a labelled file."""
    known = _read_personas(personas) if personas else {}
    with opened(file) as files:
        placed = [one for found in files for one in found.rows(check_judge.ROW_HINT)]
    rows = check_judge.read_rows(placed, "stdin" if file == "-" else file)
    scorer = shop.reward if reward else shop.evaluator
    return check_judge.run(rows, known, scorer, shop.progress)


def lint_persona(shop: Workshop) -> list[dict[str, Any]]:
    """The findings of `apc lint`; without fresh queries nothing counts as never asked."""
    character, queries, pipeline = shop.character, [], shop.pipeline()
    if pipeline.stale(pipeline.stages["queries"]):
        shop.progress.say("for what is never asked, run apc queries with the same options first")
    else:
        queries = [query.query for part in shop.queries() for query in part]
    found = lint.run(
        character.character,
        shop.statements(),
        queries,
        character.language,
        shop.evaluator,
        shop.progress,
    )
    return [finding.row() for finding in found]


def _read_personas(path: Path) -> dict[str, list[str]]:
    """The statements of each character; raises ConfigError or DataError where there are none."""
    if not path.is_file():
        raise ConfigError(f"{path} does not exist", "check the path given to --personas")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as JSON: {error}") from None
    lists = found.values() if isinstance(found, dict) else [None]
    if not all(isinstance(v, list) and all(isinstance(s, str) for s in v) for v in lists):
        raise DataError(f"{path} is not an object of characters with lists of statements")
    return found
