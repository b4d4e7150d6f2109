"""Wiki text, or a list of statements, becomes atomic persona statements (paper section 4.1)."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from apc_cli.errors import ConfigError, DataError
from apc_cli.records import Statement, Summary
from apc_cli.workspace import Workspace

if TYPE_CHECKING:
    from apc_cli.models.teacher import Teacher


def run(
    character: str,
    source: Path,
    protective: Sequence[str],
    teacher: "Teacher | None",
    workspace: Workspace,
) -> Summary:
    """Writes statements.jsonl; without a teacher, `source` lists the statements themselves."""
    if teacher is None:
        found: list[Statement] = [Statement(text) for text in read_statements(source)]
        failed = 0
    else:
        paragraphs = read_paragraphs(source)
        answers = teacher.extract_statements(character, paragraphs)
        found = [
            Statement(text, paragraph)
            for paragraph, texts in zip(paragraphs, answers, strict=True)
            for text in texts or ()
        ]
        failed = answers.count(None)
    found += [Statement(text, "persona.protective") for text in protective]
    first: dict[str, Statement] = {}
    for statement in found:
        first.setdefault(statement.statement, statement)
    kept = list(first.values())
    if not kept:
        raise DataError(f"no persona statement was found in {source}", "add facts to the text")
    workspace.write_rows("statements.jsonl", kept)
    dropped = {"paragraph failed": failed, "duplicate": len(found) - len(kept)}
    return Summary(len(kept), {reason: n for reason, n in dropped.items() if n})


def read_paragraphs(path: Path) -> list[str]:
    """The paragraphs of a wiki text, which are separated by blank lines."""
    text = _read(path, "the wiki text", "write the character's facts there, blank lines between")
    blocks = re.split(r"\n[^\S\n]*\n", text)
    paragraphs = [paragraph for block in blocks if (paragraph := " ".join(block.split()))]
    if not paragraphs:
        raise DataError(f"{path} is empty", "write the character's facts there")
    return paragraphs


def read_statements(path: Path) -> list[str]:
    """Statements from a text file, one a line, or from JSONL rows with a `statement`."""
    text = _read(path, "the statements file", "check persona.statements")
    lines = [(n, line.strip()) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise DataError(f"{path} is empty", "write one statement a line")
    if path.suffix != ".jsonl":
        return [line for _, line in lines]
    return [_statement(line, f"{path} line {number}") for number, line in lines]


def _statement(line: str, place: str) -> str:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    statement = row.get("statement") if isinstance(row, dict) else None
    if not isinstance(statement, str) or not statement.strip():
        raise DataError(f"{place}: not a JSON object with a text `statement`")
    return statement


def _read(path: Path, what: str, hint: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{what} {path} does not exist", hint) from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 (byte {error.start})", "save it as UTF-8") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
