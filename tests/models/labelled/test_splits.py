"""data/splits.yaml and data/README.md tell of the corpus as it is."""

import zlib
from collections import Counter
from pathlib import Path

import pytest
import yaml

from apc_cli.models.labelled.corpus import Persona, load_corpus

DATA = Path(__file__).parents[3] / "data"


@pytest.fixture(scope="module")
def personas() -> dict[str, list[Persona]]:
    """The personas of each file."""
    files = sorted((DATA / "corpus").glob("*.yaml"))
    return {path.stem: load_corpus(path, readings=False) for path in files}


def expected_split(file: str, character: str) -> str:
    number = zlib.crc32(character.encode())
    if file.startswith(("AH", "AI")):
        return "measuring"
    if number % 10 == 0:
        return "held_out"
    return ("reward", "evaluator")[number // 10 % 2]


def test_every_persona_is_in_the_split_of_its_name(personas: dict[str, list[Persona]]) -> None:
    splits = yaml.safe_load((DATA / "splits.yaml").read_text(encoding="utf-8"))
    placed = [(name, split) for split, names in splits.items() for name in names]
    expected = [
        (one.character, expected_split(file, one.character))
        for file, found in personas.items()
        for one in found
    ]
    assert Counter(placed) == Counter(expected)
    assert len(dict(placed)) == len(placed), "two personas of one name"


def test_the_readme_counts_what_there_is(personas: dict[str, list[Persona]]) -> None:
    everyone = [persona for found in personas.values() for persona in found]
    exchanges = [exchange for persona in everyone for exchange in persona.exchanges]
    replies = [reply for exchange in exchanges for reply in exchange.replies]
    readme = " ".join((DATA / "README.md").read_text(encoding="utf-8").split())
    for line in (
        f"{len(everyone):,} invented characters",
        f"{sum(len(persona.statements) for persona in everyone):,} statements",
        f"{len(exchanges):,} queries and {len(replies):,} replies",
        f"{sum(len(reply.entailed) for reply in replies):,} entailed",
        f"{sum(len(reply.contradicted) for reply in replies):,} contradicted",
    ):
        assert line in readme


def test_a_persona_has_seven_to_twelve_statements(personas: dict[str, list[Persona]]) -> None:
    for persona in (persona for found in personas.values() for persona in found):
        assert 7 <= len(persona.statements) <= 12, persona.character
