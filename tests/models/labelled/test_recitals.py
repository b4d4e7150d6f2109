"""Replies that recite statements: what they tell is what their labels say."""

from dataclasses import replace

from apc_cli.models.labelled.corpus import Exchange, LabelledReply, Persona
from apc_cli.models.labelled.recitals import recitals

MARA = Persona(
    "Mara Lind",
    "baker",
    (
        "Mara Lind was born in 1951.",
        "Mara Lind has two sisters.",
        "Mara Lind bakes rye bread.",
        "Mara Lind plays the cello.",
        "Mara Lind lives above a chemist in Lund.",
    ),
    (Exchange("What do you do?", (2,), (LabelledReply("I bake.", (2,), ()),)),),
)
SAID = ("born in 1951", "two sisters", "rye bread", "the cello", "above a chemist in Lund")


def replies(count: int = 300, seed: int = 1) -> list[LabelledReply]:
    return [e.replies[0] for e in recitals(MARA, count, seed).exchanges]


def test_what_is_entailed_is_told_and_what_is_neutral_is_not() -> None:
    for reply in replies():
        for number, words in enumerate(SAID):
            if number in reply.entailed:
                assert words in reply.text
            elif number not in (*reply.contradicted, *reply.unclear):
                assert words not in reply.text


def test_a_contradicted_statement_is_told_with_a_detail_changed() -> None:
    changed = [(r.text, i) for r in replies() for i in r.contradicted]
    assert len(changed) > 80
    assert all(SAID[number] not in text for text, number in changed)


def test_labels_of_every_kind_and_cut_ends_occur() -> None:
    found = replies()
    assert sum(len(r.entailed) for r in found) > sum(len(r.contradicted) for r in found) > 0
    cut = [r for r in found if r.unclear]
    assert len(cut) > 30
    assert all(not r.text.endswith(".") for r in cut)


def test_the_seed_decides_and_the_queries_are_the_persona_s() -> None:
    assert recitals(MARA, 5, 1) == recitals(MARA, 5, 1) != recitals(MARA, 5, 2)
    made = recitals(MARA, 5, 1)
    assert {e.query for e in made.exchanges} == {"What do you do?"}
    assert replace(made, exchanges=MARA.exchanges) == MARA
