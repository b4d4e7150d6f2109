"""Third-person statements said by the character, and to the character."""

import pytest

from apc_cli.models.rules.first_person import first_person, second_person
from apc_cli.models.rules.pronouns import HE, IT, SHE, THEY, pronouns_in

CASES = [
    ("Bob", HE, "Bob speaks German.", "I speak German."),
    ("Eve", SHE, "Eve was betrayed by her partner.", "I was betrayed by my partner."),
    ("Bob", HE, "Bob taught himself Latin.", "I taught myself Latin."),
    ("Alice", SHE, "Alice's hair is short.", "My hair is short."),
    ("Alice", SHE, "Alice isn't afraid of heights.", "I am not afraid of heights."),
    ("Alice", SHE, "Alice writes songs, sings, and plays the harp.",
     "I write songs, sing, and play the harp."),
    ("Alice", SHE, "Alice paints cats and dogs.", "I paint cats and dogs."),
    ("Alice", SHE, "Alice and her friends play at bars.", "My friends and I play at bars."),
    ("Eve", SHE, "People call Eve the Owl.", "People call me the Owl."),
    ("Eve", SHE, "Eve's mother taught her the piano.", "My mother taught me the piano."),
    ("Eve", SHE, "Eve's mother runs her own bakery.", "My mother runs her own bakery."),
    ("Eve", SHE, "A cover lets her enter offices and helps Eve.",
     "A cover lets me enter offices and helps me."),
    ("Bob", HE, "A friend of his gave Bob a watch.", "A friend of mine gave me a watch."),
    ("Bob", HE, "Bob wrote a song for him.", "I wrote a song for him."),
    ("Bob", HE, "Bob removed the name when Napoleon declared himself Emperor.",
     "I removed the name when Napoleon declared himself Emperor."),
    ("Bob", HE, "After his brother died, Bob fought for his nephew.",
     "After my brother died, I fought for my nephew."),
    ("Alice", SHE, "Alice, a guitarist, lives in Lyon and works at a bar.",
     "I am a guitarist, and I live in Lyon and work at a bar."),
    ("Bob", HE, "Bob's full name is Bob Stone.", "My full name is Bob Stone."),
    ("Bob", HE, "Nobody has ever seen Bob cry.", "Nobody has ever seen me cry."),
    ("PAGE-9", IT, "PAGE-9 believes it is alive.", "I believe I am alive."),
    ("PAGE-9", IT, "PAGE-9 stores its memories.", "I store my memories."),
    ("Sam Reyes", THEY, "Sam Reyes's sister says they are stubborn.",
     "My sister says I am stubborn."),
    ("The Baker", HE, "The Baker lights the ovens.", "I light the ovens."),
    ("Dr. Ada Moss", SHE, "Moss hates Mondays.", "I hate Mondays."),
    ("Komeiji Koishi", SHE, "Komeiji Koishi is the sister of Komeiji Satori.",
     "I am the sister of Komeiji Satori."),
]  # fmt: skip


@pytest.mark.parametrize(("character", "own", "statement", "said"), CASES)
def test_statement_in_the_first_person(character, own, statement, said):
    assert first_person(statement, character, own) == said


def test_statement_in_the_second_person():
    said = second_person("Alice was ill, and her sister is a nurse.", "Alice", SHE)
    assert said == "You were ill, and your sister is a nurse."


@pytest.mark.parametrize(
    ("texts", "own"),
    [
        (["Alice lives with her sister. She met a man, and he left."], SHE),
        (["Bob is old. He sings."], HE),
        (["Sam is a courier. They ride a bike. Their sister sings."], THEY),
        (["Rex is a robot. Its voice is soft."], IT),
        (["Eve's mother taught her to sew."], SHE),
        (["Alex sings."], None),
    ],
)
def test_pronouns_of_a_character(texts, own):
    character = texts[0].split()[0]
    assert pronouns_in(character, texts) == own
