"""`apc lint`: what two statements are to each other, how one is worded, what nobody asks."""

import json

import numpy as np
import pytest
from quiet import Quiet

from apc_cli.models.judging.scorer import Scorer
from apc_cli.models.rules.wording import facts_in_each, is_vague, told_by
from apc_cli.steps import lint

STATEMENTS = ["Mara is a baker.", "Mara bakes bread.", "Mara is no baker."]


@pytest.fixture(scope="module")
def scorer(models):
    folder = models / "evaluator"
    return Scorer.load(relevance=str(folder / "relevance"), nli=str(folder / "nli"), device="cpu")


def test_telling_one_statement_says_what_it_makes_of_another():
    verdicts = np.full((3, 3, 3), (0.1, 0.8, 0.1))
    verdicts[0, 1] = (0.0, 0.4, 0.6)  # told, the first implies the second
    verdicts[1, 0] = (0.0, 0.9, 0.1)
    verdicts[0, 2], verdicts[2, 0] = (0.95, 0.05, 0.0), (0.8, 0.1, 0.1)
    verdicts[1, 2], verdicts[2, 1] = (0.9, 0.0, 0.1), (0.06, 0.84, 0.1)  # 0.48 on average
    found = list(lint._clashes("Mara", STATEMENTS, verdicts))
    assert [(f.problem, f.statements, f.fix) for f in found] == [
        ("contradiction", (1, 3), "keep the one that is true, or say how both can be"),
    ]
    assert found[0].probability == pytest.approx(0.875)
    verdicts[1, 0] = (0.0, 0.8, 0.2)  # and the second somewhat the first
    [found, _] = lint._clashes("Mara", STATEMENTS, verdicts)
    assert (found.problem, found.fix) == ("duplicate", "drop 2, if 1 says all of it")
    assert found.probability == pytest.approx(0.6)


def test_of_two_that_imply_each_other_the_less_telling_one_is_spare():
    verdicts = np.zeros((2, 2, 3))
    verdicts[0, 1], verdicts[1, 0] = (0, 0.3, 0.7), (0, 0.1, 0.9)
    [found] = lint._clashes("Mara", STATEMENTS[:2], verdicts)
    assert (found.fix, found.probability) == ("drop 1, if 2 says all of it", 0.9)


def test_what_leaves_room_for_both_is_no_contradiction_however_sure_the_judge_is():
    verdicts = np.zeros((2, 2, 3))
    verdicts[0, 1] = verdicts[1, 0] = (0.98, 0.02, 0)
    room, none = (
        ["Mara likes tea.", "Mara likes coffee."],
        ["Mara drinks tea.", "Mara drinks nothing."],
    )
    assert not list(lint._clashes("Mara", room, verdicts))
    assert [f.problem for f in lint._clashes("Mara", none, verdicts)] == ["contradiction"]


def test_who_did_it_to_whom_is_no_duplicate():
    verdicts = np.zeros((2, 2, 3))
    verdicts[0, 1] = verdicts[1, 0] = (0, 0.02, 0.98)
    taught = ["Mara taught Ole to sail.", "Ole taught Mara to sail."]
    assert not list(lint._clashes("Mara", taught, verdicts))
    assert list(lint._clashes("Mara", [taught[0], "Ole learnt to sail from Mara."], verdicts))


@pytest.mark.parametrize(
    ("statement", "facts"),
    [
        ("Mara is a baker.", ["Mara is a baker."]),
        ("Mara is a baker and she owns two cats.", ["Mara is a baker.", "Mara owns two cats."]),
        ("Mara is a baker. She fears dogs.", ["Mara is a baker.", "Mara fears dogs."]),
    ],
)
def test_several_facts_in_one_statement(statement, facts):
    assert facts_in_each("Mara", [statement, "Mara sings when she bakes."])[0] == facts


def test_another_person_s_facts_are_not_the_character_s():
    persona = ["Mara has a brother Tom and he is a doctor.", "Mara sings when she bakes."]
    assert "Mara is a doctor." not in facts_in_each("Mara", persona)[0]


@pytest.mark.parametrize(
    ("statement", "vague"),
    [
        ("Mara is a very interesting person.", True),
        ("Mara likes many things.", True),
        ("Mara likes many books.", False),
        ("Mara has had an interesting life.", True),
        ("Mara knows how to do many things.", True),
        ("Mara is kind.", False),
        ("Mara is shy.", False),
        ("Mara is a woman.", False),
        ("Mara is alone.", False),
        ("Mara loves nobody.", False),
        ("マーラはパン屋だ。", False),
    ],
)
def test_a_statement_that_says_nothing_is_vague(statement, vague):
    assert is_vague("Mara", statement) is vague


def test_statements_are_told_in_the_first_person():
    told = told_by("Mara", ["Mara owns two cats.", "マーラはパン屋だ。"])
    assert told == ["I own two cats.", "マーラはパン屋だ。"]


def test_what_no_query_asks_for(scorer):
    queries = ["What do you do?", "Do you bake?"]
    found = lint._never_asked("Mara", STATEMENTS, queries, scorer, Quiet())
    most = np.max([scorer.relevance("Mara", STATEMENTS, q) for q in queries], axis=0)
    assert [f.statements for f in found] == [(i + 1,) for i in range(3) if most[i] < 0.5]
    assert [f.probability for f in found] == pytest.approx([1 - m for m in most if m < 0.5])


def test_neighbours_are_judged_as_if_alone(scorer):
    items = [("Mara", s, q, "I bake.") for q in ("What?", "Why?") for s in STATEMENTS]
    alone = [scorer.verdicts([item]) for item in items]
    np.testing.assert_allclose(scorer.verdicts(items), np.concatenate(alone), atol=0.02)


def test_findings_are_rows_on_stdout_and_strict_fails(project, apc):
    (project / "wiki" / "Mara_wiki.txt").unlink()
    (project / "mine.txt").write_text("Mara is a baker and she sings.\nMara likes many things.\n")
    options = ("-c", "Mara", "--profile", "offline", "--set", "persona.statements=mine.txt")
    code, out, err = apc("lint", *options)
    rows = [json.loads(line) for line in out.splitlines()]
    worded = [r for r in rows if r["problem"] in ("compound", "vague")]
    assert code == 0
    assert [(r["problem"], r["statements"], r["probability"]) for r in worded] == [
        ("compound", [1], None),
        ("vague", [2], None),
    ]
    assert worded[0]["fix"] == "split it, for example: Mara is a baker. | Mara sings."
    assert "for what is never asked, run apc queries with the same options first" in err
    assert apc("lint", *options, "--strict")[0] == 4
    assert apc("queries", *options)[0] == 0
    assert "Looking for queries" in apc("lint", *options)[2]
    (project / "mine.txt").write_text("Mara owns a boat.\n")
    assert (
        "Looking for queries" not in apc("lint", *options)[2]
    )  # the queries are of another persona
