"""Wiki texts and statement files as they come."""

import json

import pytest

from apc_cli.errors import ConfigError, DataError
from apc_cli.models.rules.rule_teacher import RuleTeacher
from apc_cli.records import Statement
from apc_cli.steps import statements
from apc_cli.workspace import Workspace


class Teacher(RuleTeacher):
    """Fails on one paragraph, as an LLM may."""

    def extract_statements(self, character, paragraphs):
        found = super().extract_statements(character, paragraphs)
        return [None if "unreadable" in p else f for p, f in zip(paragraphs, found, strict=True)]


def run(tmp_path, text, teacher=None, protective=(), name="source.txt"):
    source = tmp_path / name
    source.write_bytes(text if isinstance(text, bytes) else text.encode())
    place = Workspace(tmp_path / "w", "Mara")
    place.create()
    summary = statements.run("Mara", source, protective, teacher, place)
    return place.read_rows("statements.jsonl", Statement), summary


def test_statements_keep_their_paragraph_and_duplicates_go(tmp_path):
    text = "Mara is a baker.\n\nMara is a baker. Mara fears dogs.\n\nunreadable"
    protective = ("Mara knows no cars.", "Mara fears dogs.")
    found, summary = run(tmp_path, text, Teacher(0), protective)
    assert [row.statement for row in found] == [
        "Mara is a baker.",
        "Mara fears dogs.",
        "Mara knows no cars.",
    ]
    assert found[0].source == "Mara is a baker." and found[2].source == "persona.protective"
    assert (summary.kept, summary.dropped) == (3, {"paragraph failed": 1, "duplicate": 1})


def test_paragraphs_are_separated_by_blank_lines_of_any_kind(tmp_path):
    path = tmp_path / "wiki.txt"
    path.write_bytes(b"\xef\xbb\xbfOne\r\ntwo.\r\n\r\nThree.\n \t\nFour.\n\n\n\n")
    assert statements.read_paragraphs(path) == ["One two.", "Three.", "Four."]


@pytest.mark.parametrize("text", ["", "\n \n\n", b"\xef\xbb\xbf"])
def test_an_empty_wiki_is_bad_data(tmp_path, text):
    with pytest.raises(DataError, match="is empty"):
        run(tmp_path, text, RuleTeacher(0))
    with pytest.raises(DataError, match="is empty"):
        run(tmp_path, text)
    assert not (tmp_path / "w/Mara/statements.jsonl").exists()


def test_own_statements_as_text_and_as_rows(tmp_path):
    found, _ = run(tmp_path, "Mara bakes.\r\n\n  Mara sings.\nMara bakes.\n")
    assert [row.statement for row in found] == ["Mara bakes.", "Mara sings."]
    rows = "".join(json.dumps({"statement": s, "id": 1}) + "\n" for s in ("A.", "B\u2028C."))
    found, _ = run(tmp_path, rows, name="own.jsonl")
    assert [row.statement for row in found] == ["A.", "B\u2028C."]


@pytest.mark.parametrize(
    "line", ['{"text": "A."}', "A.", '["A."]', '{"statement": 5}', '{"statement": " "}']
)
def test_rows_without_a_statement_are_bad_data(tmp_path, line):
    with pytest.raises(DataError, match="line 2"):
        run(tmp_path, '{"statement": "A."}\n' + line, name="own.jsonl")


def test_unreadable_sources(tmp_path):
    with pytest.raises(DataError, match="byte 4"):
        run(tmp_path, b"Mara\xe9 bakes.", RuleTeacher(0))
    with pytest.raises(ConfigError, match="does not exist"):
        statements.read_paragraphs(tmp_path / "none.txt")
    with pytest.raises(DataError, match="cannot be read"):
        statements.read_statements(tmp_path)
