import re
from pathlib import Path

import pytest
import yaml

from apc_cli.errors import DataError
from apc_cli.models.labelled.corpus import Exchange, LabelledReply, Persona, load_corpus

_TITLES = {"the", "of", "The", "Captain", "Inspector", "Agent", "Detective", "Madame"}
CORPUS = sorted((Path(__file__).parents[3] / "data" / "corpus").glob("*.yaml"))


def persona() -> dict:
    return {
        "character": "Odile Marchetti",
        "genre": "heist thriller",
        "statements": ["Odile Marchetti cracks safes.", "Odile Marchetti is Swiss."],
        "exchanges": [
            {
                "query": "what do u do?",
                "relevant": [0],
                "replies": [{"text": "I open safes.", "entailed": [0], "contradicted": []}],
            }
        ],
    }


def load(tmp_path: Path, content: object) -> list[Persona]:
    path = tmp_path / "a.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return load_corpus(path)


def test_a_persona_becomes_records(tmp_path: Path) -> None:
    assert load(tmp_path, [persona()]) == [
        Persona(
            "Odile Marchetti",
            "heist thriller",
            ("Odile Marchetti cracks safes.", "Odile Marchetti is Swiss."),
            (Exchange("what do u do?", (0,), (LabelledReply("I open safes.", (0,), ()),)),),
        )
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.pop("genre"), "genre is missing"),
        (lambda p: p.update(statements=[]), "no statements"),
        (lambda p: p.update(statements=[True]), "True is not text"),
        (lambda p: p.update(exchanges="none"), "exchanges is 'none', expected a list"),
        (lambda p: p["exchanges"][0].update(query=7), "query is 7, expected text"),
        (lambda p: p["exchanges"][0].update(relevant=[2]), "relevant has 2, expected a number"),
        (lambda p: p["exchanges"][0].update(relevant=[0, 0]), "relevant names a statement twice"),
        (lambda p: p["exchanges"][0].update(relevant=0), "relevant is 0, expected a list"),
        (
            lambda p: p["exchanges"][0]["replies"][0].update(contradicted=[0]),
            r"statements \[0\] are both entailed and contradicted",
        ),
        (lambda p: p["exchanges"][0]["replies"][0].pop("text"), "reply 0: text is missing"),
    ],
)
def test_an_error_names_file_persona_and_fault(tmp_path: Path, change, message: str) -> None:
    broken = persona()
    change(broken)
    with pytest.raises(DataError, match=message) as caught:
        load(tmp_path, [persona(), broken])
    assert "a.yaml: persona 1 (Odile Marchetti)" in str(caught.value)


def read_twice(tmp_path: Path, reading: object) -> list[Persona]:
    """The corpus file of `persona()` with a second reading beside it."""
    for folder, content in (("corpus", [persona()]), ("readings", reading)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.yaml").write_text(yaml.safe_dump(content))
    return load_corpus(tmp_path / "corpus" / "a.yaml")


def reading(relevant: list[int], entailed: list[int], contradicted: list[int]) -> list[dict]:
    labels = {"entailed": entailed, "contradicted": contradicted}
    exchanges = [{"relevant": relevant, "replies": [labels]}]
    return [{"character": "Odile Marchetti", "exchanges": exchanges}]


@pytest.mark.parametrize(
    ("labels", "unclear_relevance", "unclear_nli"),
    [
        (([0], [0], []), (), ()),
        (([1], [0], []), (0, 1), ()),
        (([0], [0, 1], []), (), (1,)),
        (([0], [], [0]), (), (0,)),
        (([0], [], []), (), (0,)),
    ],
)
def test_where_two_readers_differ_the_label_is_unclear(
    tmp_path: Path, labels, unclear_relevance, unclear_nli
) -> None:
    [odile] = read_twice(tmp_path, reading(*labels))
    [exchange] = odile.exchanges
    assert exchange.unclear == unclear_relevance and exchange.relevant == (0,)
    assert exchange.replies[0].unclear == unclear_nli and exchange.replies[0].entailed == (0,)
    [alone] = load_corpus(tmp_path / "corpus" / "a.yaml", readings=False)
    assert alone.exchanges[0].unclear == alone.exchanges[0].replies[0].unclear == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.append(r[0]), "2 personas, expected 1"),
        (lambda r: r[0].update(character="Odile"), "is about 'Odile'"),
        (lambda r: r[0]["exchanges"].clear(), "0 exchanges, expected 1"),
        (lambda r: r[0]["exchanges"][0]["replies"].clear(), "0 replies, expected 1"),
        (lambda r: r[0]["exchanges"][0].update(relevant=[9]), "relevant has 9"),
    ],
)
def test_a_reading_that_does_not_fit_is_refused(tmp_path: Path, change, message: str) -> None:
    wrong = reading([0], [0], [])
    change(wrong)
    with pytest.raises(DataError, match=message):
        read_twice(tmp_path, wrong)


def test_labels_by_place() -> None:
    reply = LabelledReply("x", entailed=(0,), contradicted=(2,))
    assert [reply.label(i) for i in range(3)] == [2, 1, 0]


@pytest.mark.parametrize("content", ["a: [", "", "character: Odile"])
def test_a_file_that_is_no_list_of_personas(tmp_path: Path, content: str) -> None:
    with pytest.raises(DataError, match="a.yaml"):
        load(tmp_path, content)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none.yaml"):
        load_corpus(tmp_path / "none.yaml")


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_the_shipped_corpus_is_valid(path: Path) -> None:
    for persona in load_corpus(path):
        names = [word for word in re.findall(r"[\w'-]+", persona.character) if word not in _TITLES]
        for statement in persona.statements:
            assert any(name in statement for name in names), statement
        replies = [reply for exchange in persona.exchanges for reply in exchange.replies]
        assert any(reply.entailed for reply in replies), persona.character
        assert any(reply.contradicted for reply in replies), persona.character
        assert any(
            set(exchange.relevant) - set(reply.entailed + reply.contradicted)
            for exchange in persona.exchanges
            for reply in exchange.replies
        ), f"{persona.character}: no reply is neutral to a statement that was asked for"
