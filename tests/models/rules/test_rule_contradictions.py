"""Statements with one detail wrong."""

import pytest

from apc_cli.models.rules.contradictions import contradictions_of
from apc_cli.models.rules.first_person import first_person
from apc_cli.models.rules.judging import flat
from apc_cli.models.rules.names import names_of
from apc_cli.models.rules.partial import partial
from apc_cli.models.rules.pronouns import HE


def wrong(statement):
    return contradictions_of(statement, "Bob", HE, 1)


@pytest.mark.parametrize(
    ("statement", "start", "true_word"),
    [
        ("Bob is 26 years old.", "I am ", "26"),
        ("Bob plays the violin.", "I play the ", "violin"),
        ("Bob's eyes are green.", "My eyes are ", "green"),
        ("Bob moved to Rome in 1999.", "I moved to ", "Rome in 1999"),
    ],
)
def test_the_detail_is_changed_and_the_rest_kept(statement, start, true_word):
    changed = [text for text in wrong(statement) if text.startswith(start) and " not " not in text]
    assert changed
    assert not any(true_word in text for text in changed)


@pytest.mark.parametrize(
    ("statement", "opposite"),
    [
        ("Bob never raises his voice.", "I often raise my voice."),
        ("Bob cannot swim.", "I can swim."),
        ("Bob loves jazz.", "I hate jazz."),
        ("Bob has never left Norway.", "I have left Norway."),
        ("Bob trains at dawn.", "I do not train at dawn."),
    ],
)
def test_opposites(statement, opposite):
    assert opposite in wrong(statement)


@pytest.mark.parametrize("statement", ["Bob can cook.", "Bob dresses well.", "Bob sings at night."])
def test_a_verb_is_not_taken_for_a_noun(statement):
    nouns = {"soldier", "sweater", "evening"}
    assert not any(nouns & set(flat(text).split()) for text in wrong(statement))


def test_no_contradiction_repeats_the_truth():
    statement = "Bob lives in a small red house near Lyon."
    assert first_person(statement, "Bob", HE) not in wrong(statement)


@pytest.mark.parametrize(
    ("statement", "kept"),
    [
        ("Bob works in a bakery in Lyon.", "Bob works in a bakery."),
        ("Bob never eats meat at home.", ""),
        ("Bob insists on integrity.", ""),
    ],
)
def test_a_partial_statement_is_still_a_sentence(statement, kept):
    assert partial(names_of("Bob").tokenise(statement), HE) == kept
