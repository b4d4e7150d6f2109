"""Personas with labelled replies: the records, and the reader of the written corpus files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from apc_cli.errors import DataError


@dataclass(frozen=True)
class LabelledReply:
    """A reply and the statements it settles; it is neutral to every other statement."""

    text: str
    entailed: tuple[int, ...]
    contradicted: tuple[int, ...]


@dataclass(frozen=True)
class Exchange:
    """A query, the statements a good answer to it includes, and replies of every label."""

    query: str
    relevant: tuple[int, ...]
    replies: tuple[LabelledReply, ...]


@dataclass(frozen=True)
class Persona:
    """An invented character; `relevant`, `entailed` and `contradicted` index `statements`."""

    character: str
    genre: str
    statements: tuple[str, ...]
    exchanges: tuple[Exchange, ...]


def load_corpus(path: Path) -> list[Persona]:
    """The personas of one YAML file in the format of data/README.md."""
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(entries, list) or not entries:
        raise DataError(f"{path}: expected a list of personas.")
    return [_persona(entry, f"{path}: persona {number}") for number, entry in enumerate(entries)]


def _persona(entry: Any, place: str) -> Persona:
    character = _text(entry, "character", place)
    place = f"{place} ({character})"
    statements = tuple(_listed(entry, "statements", place))
    if not statements:
        raise DataError(f"{place}: no statements.")
    for statement in statements:
        if not isinstance(statement, str) or not statement.strip():
            raise DataError(f"{place}: statement {statement!r} is not text.")
    exchanges = tuple(
        _exchange(item, len(statements), f"{place}, exchange {number}")
        for number, item in enumerate(_listed(entry, "exchanges", place))
    )
    return Persona(character, _text(entry, "genre", place), statements, exchanges)


def _exchange(entry: Any, size: int, place: str) -> Exchange:
    query = _text(entry, "query", place)
    replies = tuple(
        _reply(item, size, f"{place}, reply {number}")
        for number, item in enumerate(_listed(entry, "replies", place))
    )
    return Exchange(query, _indices(entry, "relevant", size, place), replies)


def _reply(entry: Any, size: int, place: str) -> LabelledReply:
    text = _text(entry, "text", place)
    entailed = _indices(entry, "entailed", size, place)
    contradicted = _indices(entry, "contradicted", size, place)
    if both := set(entailed) & set(contradicted):
        raise DataError(f"{place}: statements {sorted(both)} are both entailed and contradicted.")
    return LabelledReply(text, entailed, contradicted)


def _text(entry: Any, key: str, place: str) -> str:
    value = _field(entry, key, place)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{place}: {key} is {value!r}, expected text; quote it if it looks so.")
    return value.strip()


def _listed(entry: Any, key: str, place: str) -> list[Any]:
    value = _field(entry, key, place)
    if not isinstance(value, list):
        raise DataError(f"{place}: {key} is {value!r}, expected a list.")
    return value


def _indices(entry: Any, key: str, size: int, place: str) -> tuple[int, ...]:
    values = _listed(entry, key, place)
    for value in values:
        if type(value) is not int or not 0 <= value < size:
            raise DataError(f"{place}: {key} has {value!r}, expected a number in 0..{size - 1}.")
    if len(set(values)) != len(values):
        raise DataError(f"{place}: {key} names a statement twice.")
    return tuple(values)


def _field(entry: Any, key: str, place: str) -> Any:
    if not isinstance(entry, dict) or key not in entry:
        raise DataError(f"{place}: {key} is missing.")
    return entry[key]
