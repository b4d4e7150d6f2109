"""Which statements are worded so that both can hardly be true."""

import pytest

from apc_cli.models.rules.exclusion import are_turned_round, may_exclude


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Mara never drinks.", "Mara is drunk most evenings."),
        ("Mara doesn't eat meat.", "Mara has sausages for breakfast."),
        ("Mara has one brother only.", "Mara's brothers are Tom and Ole."),
        ("Mara was born in Lund.", "Mara was born at sea."),
        ("Mara carries a sword named Frost.", "Mara's sword is named Ember."),
        ("Mara closed the shop in 1911.", "Mara closed the shop in 1924."),
        ("Mara has two green eyes.", "Mara has three green eyes."),
        ("Mara loves jazz.", "Mara hates jazz above all other music."),
        ("Mara won the judo final.", "Mara lost the judo final."),
        ("マーラは紅茶が好きだ。", "マーラはコーヒーが好きだ。"),
    ],
)
def test_both_can_hardly_be_true(one, other):
    assert may_exclude("Mara", one, other) and may_exclude("Mara", other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Mara likes tea.", "Mara likes coffee."),
        ("Mara never drinks.", "Mara never smokes."),
        ("Mara has a son called Jonas.", "Mara has a daughter called Mette."),
        ("Mara opened the shop in 1896.", "Mara closed the shop in 1924."),
        ("Mara has two nephews.", "Mara has one niece."),
        ("Mara loves her garden.", "Mara hates her job."),
        ("Mara won money at the races.", "Mara lost the judo final."),
    ],
)
def test_both_may_be_true(one, other):
    assert not may_exclude("Mara", one, other) and not may_exclude("Mara", other, one)


def test_the_same_words_in_another_order_are_turned_round():
    assert are_turned_round("Mara", "Mara taught Ole to sail.", "Ole taught Mara to sail.")
    assert are_turned_round("Mara", "Mara saved the cook's life.", "The cook saved Mara's life.")
    assert not are_turned_round("Mara", "Mara sails.", "Mara sails!")
    assert not are_turned_round("Mara", "Mara taught Ole to sail.", "Ole taught Mara to row.")
