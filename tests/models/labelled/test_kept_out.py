"""The corpus shares no character, statement, query or sentence with the rows that measure judges.

Those hand-labelled rows are not part of the project. `kept_out.txt` holds the first 12 digits of
the SHA-256 of what they are known by: names, statements without names and pronouns, whole queries
and replies, sentences of more than three words, and runs of five words. Everyday runs that both
have ("how long have you been") are left out: those of the corpus as it was when the file was made.
It is made of rows as `apc check-judge` reads them and of {character: [statements]} by

    python tests/models/labelled/test_kept_out.py ROWS.jsonl PERSONAS.json
"""

import hashlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from apc_cli.models.labelled.corpus import Persona, load_corpus

KEPT_OUT = Path(__file__).parent / "kept_out.txt"
CORPUS = sorted((Path(__file__).parents[3] / "data" / "corpus").glob("*.yaml"))
NO_NAME = {"the", "of"}
PRONOUNS = {"he", "him", "his", "she", "her", "hers", "they", "them", "their", "its"}
RUN = 5


def words(text: str) -> list[str]:
    return re.findall(r"[\w']+", text.lower().replace("’", "'"))


def runs(text: str) -> Iterator[tuple[str, str]]:
    said = words(text)
    for start in range(len(said) - RUN + 1):
        yield "run", " ".join(said[start : start + RUN])


def statement_marks(character: str, statement: str) -> Iterator[tuple[str, str]]:
    names = set(words(character)) - NO_NAME
    names |= {f"{name}'s" for name in names}
    yield "statement", " ".join(w for w in words(statement) if w not in names | PRONOUNS)
    yield from runs(statement)


def text_marks(kind: str, text: str) -> Iterator[tuple[str, str]]:
    """Of a query or a reply."""
    yield kind, " ".join(words(text))
    for sentence in re.split(r"[.!?…~:;\n]", text):
        if len(words(sentence)) > 3:
            yield "sentence", " ".join(words(sentence))
    yield from runs(text)


def persona_marks(persona: Persona) -> Iterator[tuple[str, str]]:
    yield "name", " ".join(words(persona.character))
    for statement in persona.statements:
        yield from statement_marks(persona.character, statement)
    for exchange in persona.exchanges:
        yield from text_marks("query", exchange.query)
        for reply in exchange.replies:
            yield from text_marks("reply", reply.text)


def digest(mark: tuple[str, str]) -> str:
    return hashlib.sha256(": ".join(mark).encode()).hexdigest()[:12]


@pytest.fixture(scope="module")
def kept_out() -> set[str]:
    return set(KEPT_OUT.read_text().split())


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_the_corpus_has_nothing_of_the_hand_labelled_rows(path: Path, kept_out: set[str]) -> None:
    for persona in load_corpus(path, readings=False):
        shared = {mark for mark in persona_marks(persona) if digest(mark) in kept_out}
        assert not shared, persona.character


def test_what_a_statement_and_a_text_are_known_by() -> None:
    first, *_ = statement_marks("The Duke of Ely", "Ely's duke owes his cook a hat.")
    assert first == ("statement", "owes cook a hat")
    assert list(text_marks("query", "Tea? I take it as it comes.")) == [
        ("query", "tea i take it as it comes"),
        ("sentence", "i take it as it comes"),
        *[("run", run) for run in ("tea i take it as", "i take it as it", "take it as it comes")],
    ]


def test_thousands_of_hashes_are_kept_out(kept_out: set[str]) -> None:
    assert len(kept_out) > 1500 and all(re.fullmatch("[0-9a-f]{12}", line) for line in kept_out)


def write(rows: Path, personas: Path) -> None:
    """Makes `kept_out.txt`."""
    marks = set()
    for character, statements in json.loads(personas.read_text()).items():
        marks.add(("name", " ".join(words(character))))
        for statement in statements:
            marks |= set(statement_marks(character, statement))
    for row in map(json.loads, rows.read_text().splitlines()):
        marks |= {*text_marks("query", row["query"]), *text_marks("reply", row["response"])}
    corpus = [persona for path in CORPUS for persona in load_corpus(path, readings=False)]
    everyday = {mark for one in corpus for mark in persona_marks(one) if mark[0] == "run"}
    KEPT_OUT.write_text("\n".join(sorted(digest(mark) for mark in marks - everyday)) + "\n")


if __name__ == "__main__":
    write(*map(Path, sys.argv[1:]))
