"""Personas with labelled replies: the records, and the reader of the written corpus files.

A corpus file may have a second reading beside it, `readings/NAME.yaml` for `corpus/NAME.yaml`: the
labels that a reader gave who had not seen the author's. Where the two differ the label is unclear.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from apc_cli.errors import DataError

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Ten times as fast where PyYAML was built with libyaml."""


@dataclass(frozen=True)
class LabelledReply:
    """A reply and the statements it settles; it is neutral to every other clear statement.

    `unclear` are the statements on whose label two readers differed.
    """

    text: str
    entailed: tuple[int, ...]
    contradicted: tuple[int, ...]
    unclear: tuple[int, ...] = ()

    def label(self, statement: int) -> int:
        """The place of the statement's label in NLI_LABELS."""
        if statement in self.entailed:
            return 2
        return 0 if statement in self.contradicted else 1


@dataclass(frozen=True)
class Exchange:
    """A query, the statements a good answer to it includes, and replies of every label."""

    query: str
    relevant: tuple[int, ...]
    replies: tuple[LabelledReply, ...]
    unclear: tuple[int, ...] = ()


@dataclass(frozen=True)
class Persona:
    """An invented character; `relevant`, `entailed` and `contradicted` index `statements`."""

    character: str
    genre: str
    statements: tuple[str, ...]
    exchanges: tuple[Exchange, ...]


def load_corpus(path: Path, *, readings: bool = True) -> list[Persona]:
    """The personas of one YAML file in the format of data/README.md.

    With `readings`, a label that a second reader did not share is marked as unclear.
    """
    personas = [
        _persona(entry, f"{path}: persona {number}") for number, entry in enumerate(_entries(path))
    ]
    read = reading_of(path) if readings else None
    if read is None:
        return personas
    return [_compared(*both) for both in zip(personas, read, strict=True)]


def reading_of(path: Path) -> list[Persona] | None:
    """The personas of a corpus file with the second reader's labels; None if it has no reading.

    Raises:
        DataError: the reading has another number of personas, exchanges or replies.
    """
    place = path.parent.parent / "readings" / path.name
    if not place.is_file():
        return None
    personas, entries = load_corpus(path, readings=False), _entries(place)
    if len(entries) != len(personas):
        raise DataError(f"{place}: {len(entries)} personas, expected {len(personas)}.")
    return [
        _read(persona, entry, f"{place}: persona {number} ({persona.character})")
        for number, (persona, entry) in enumerate(zip(personas, entries, strict=True))
    ]


def _entries(path: Path) -> list[Any]:
    try:
        entries = yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(entries, list) or not entries:
        raise DataError(f"{path}: expected a list of personas.")
    return entries


def _read(persona: Persona, entry: Any, place: str) -> Persona:
    """The persona with the labels of a reading's entry in the place of its own."""
    if _text(entry, "character", place) != persona.character:
        raise DataError(f"{place}: is about {entry['character']!r}.")
    size, found = len(persona.statements), _listed(entry, "exchanges", place)
    if len(found) != len(persona.exchanges):
        raise DataError(f"{place}: {len(found)} exchanges, expected {len(persona.exchanges)}.")
    exchanges = []
    for number, (exchange, labels) in enumerate(zip(persona.exchanges, found, strict=True)):
        here = f"{place}, exchange {number}"
        given = _listed(labels, "replies", here)
        if len(given) != len(exchange.replies):
            raise DataError(f"{here}: {len(given)} replies, expected {len(exchange.replies)}.")
        replies = tuple(
            _reply({"text": reply.text} | item, size, f"{here}, reply {i}")
            for i, (reply, item) in enumerate(zip(exchange.replies, given, strict=True))
        )
        relevant = _indices(labels, "relevant", size, here)
        exchanges.append(Exchange(exchange.query, relevant, replies))
    return replace(persona, exchanges=tuple(exchanges))


def _compared(author: Persona, reader: Persona) -> Persona:
    """The author's persona, with every label that the reader does not share marked as unclear."""
    everything = range(len(author.statements))
    exchanges = []
    for one, other in zip(author.exchanges, reader.exchanges, strict=True):
        replies = tuple(
            replace(a, unclear=tuple(i for i in everything if a.label(i) != b.label(i)))
            for a, b in zip(one.replies, other.replies, strict=True)
        )
        unclear = tuple(sorted(set(one.relevant) ^ set(other.relevant)))
        exchanges.append(replace(one, replies=replies, unclear=unclear))
    return replace(author, exchanges=tuple(exchanges))


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
