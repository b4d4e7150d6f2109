"""Which statements a faithful answer tells, and what becomes of answers that were not written."""

import json

import pytest
from quiet import Quiet

from apc_cli.errors import DataError
from apc_cli.models.rules.rule_teacher import RuleTeacher
from apc_cli.records import Query
from apc_cli.steps import experience
from apc_cli.steps.experience import statements_to_tell
from apc_cli.workspace import Workspace

SHOWN = ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("own", "relevance", "least", "most", "told"),
    [
        ("c", [0.1, 0.2, 0.3, 0.4], 1, 3, ["c"]),
        ("c", [0.1, 0.2, 0.3, 0.4], 2, 3, ["c", "d"]),
        ("c", [0.9, 0.2, 0.3, 0.6], 1, 3, ["c", "a", "d"]),
        ("c", [0.9, 0.8, 0.3, 0.6], 1, 2, ["c", "a"]),
        ("c", [0.5, 0.5, 0.5, 0.5], 1, 4, ["c"]),
        ("not shown", [0.1, 0.2, 0.3, 0.4], 1, 3, ["d"]),
        ("not shown", [0.1, 0.7, 0.9, 0.4], 1, 3, ["c", "b"]),
    ],
)
def test_what_is_told(own, relevance, least, most, told):
    assert statements_to_tell(own, SHOWN, relevance, least, most) == told


class Forgetful(RuleTeacher):
    """Has no answer to queries that end in an exclamation mark."""

    def write_answers(self, character, items):
        answers = super().write_answers(character, items)
        return [
            None if item[0].endswith("!") else answer
            for item, answer in zip(items, answers, strict=True)
        ]


def run(tmp_path, queries):
    workspace = Workspace(tmp_path, "Mara")
    workspace.create()
    facts = ["Mara is a baker.", "Mara owns two cats."]
    summary = experience.run(
        "Mara",
        [Query(q, facts[0]) for q in queries],
        lambda _: facts,
        Forgetful(0),
        workspace,
        Quiet(),
    )
    lines = workspace.path("experience.jsonl").read_text().splitlines()
    return summary, [json.loads(line) for line in lines]


def test_answers_tell_every_statement_and_missing_ones_are_counted(tmp_path):
    summary, rows = run(tmp_path, ["What do you do?", "Tell me!"])
    assert summary.kept == 1 and summary.dropped == {"not written": 1}
    [row] = rows
    assert row["query"] == "What do you do?" and len(row["statements"]) == 2
    assert "baker" in row["response"] and "two cats" in row["response"]
    assert "Mara" not in row["response"]


def test_no_answer_at_all_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no answer"):
        run(tmp_path, ["Tell me!"])
