"""Prose, lists and odd names turned into statements."""

import pytest

from apc_cli.models.rules.names import names_of
from apc_cli.models.rules.segments import sentences_of
from apc_cli.models.rules.sentences import statements_of

CASES = [
    ("Alice Carter, a 26-year-old guitarist, lives in Lyon.",
     ["Alice Carter is a 26-year-old guitarist.", "Alice lives in Lyon."]),
    ("Born in Oslo, Alice moved to Lyon in 2009.",
     ["Alice was born in Oslo.", "Alice moved to Lyon in 2009."]),
    ("Alice is a keeper who sings at night.",
     ["Alice is a keeper.", "Alice sings at night."]),
    ("Alice has pale hair, and her eyes are green.",
     ["Alice has pale hair.", "Alice's eyes are green."]),
    ("Outside work, Alice plays chess and attends the opera.",
     ["Outside work, Alice plays chess.", "Outside work, Alice attends the opera."]),
    ("Alice never drinks or smokes.", ["Alice never drinks or smokes."]),
    ("Alice bought a van and painted it red.", ["Alice bought a van and painted it red."]),
    ("Alice writes and sings songs.", ["Alice writes and sings songs."]),
    ("Alice was born in Lyon and raised in Paris.",
     ["Alice was born in Lyon and raised in Paris."]),
    ("Alice sings. However, she is shy.", ["Alice sings.", "Alice is shy."]),
    ("Alice owns an old van. It is red.", ["Alice owns an old van.", "Alice's old van is red."]),
    ("Alice lives in Lyon. It is a large city.", ["Alice lives in Lyon."]),
    ("Alice's mother Ann was a nurse. She taught in Rome.", ["Alice's mother Ann was a nurse."]),
    ("Alice wrote a book. She showed it to Dr. Moss.", ["Alice wrote a book."]),
    ("Alice's friends call her Al. She likes it.", ["Alice's friends call her Al."]),
    ("Age: 26\nLikes: tea, storms\n- collects maps\n- afraid of spiders",
     ["Alice is 26 years old.", "Alice likes tea and storms.", "Alice collects maps.",
      "Alice is afraid of spiders."]),
]  # fmt: skip


@pytest.mark.parametrize(("prose", "statements"), CASES)
def test_statements_of_a_paragraph(prose, statements):
    gender = "She likes her name."
    assert statements_of("Alice", [prose, gender])[0] == statements


def test_later_facts_of_a_named_person_do_not_fall_to_the_character():
    prose = "Newton wrote it, and the astronomer Halley praised the work and paid for it."
    assert not any("Newton paid" in text for text in statements_of("Newton", [prose])[0])


def test_they_of_one_person_takes_a_singular_verb_beside_the_name():
    prose = "Sam is a courier. They ride far and know every street. They were ill."
    assert statements_of("Sam", [prose])[0][1:] == [
        "Sam rides far and knows every street.",
        "Sam was ill.",
    ]


def test_text_in_another_script_is_only_cut_at_its_own_marks():
    assert statements_of("林雪", ["林雪是钢琴家。她住在上海！"]) == [
        ["林雪是钢琴家。", "林雪住在上海！"]
    ]


def test_abbreviations_and_initials_do_not_end_a_sentence():
    text = "Dr. Moss met J. S. Bach at 3.5 p.m. in Rome. He left!"
    assert sentences_of(text) == ["Dr. Moss met J. S. Bach at 3.5 p.m. in Rome.", "He left!"]


@pytest.mark.parametrize(
    ("character", "text", "mentions"),
    [
        ("Komeiji Koishi", "Koishi met Komeiji Satori.", ["Koishi"]),
        ("Alice", "Alice Carter met Alice.", ["Alice Carter", "Alice"]),
        ("Alice Carter", "Alice Brown met Alice.", ["Alice"]),
        ("The Baker", "A baker met the Baker.", ["the Baker"]),
        ("Beethoven", "Ludwig van Beethoven met Karl van Beethoven.", ["Ludwig van Beethoven"]),
        ("PAGE-9", "PAGE-9 and PAGE-90.", ["PAGE-9"]),
    ],
)
def test_mentions_are_the_character_and_nobody_else(character, text, mentions):
    assert [text[start:end] for start, end in names_of(character).spans(text)] == mentions
