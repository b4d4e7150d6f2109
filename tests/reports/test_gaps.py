"""Figures of preference pairs that can be worked out by hand."""

from apc_cli.records import PreferencePair
from apc_cli.reports.gaps import pair_figures, pair_rows


def pair(query, chosen, rejected, gap):
    def turn(text):
        return [{"role": "assistant", "content": text}]

    prompt = [{"role": "user", "content": query}]
    return PreferencePair(prompt, turn(chosen), turn(rejected), 1.0 + gap, 1.0)


PAIRS = [
    pair("a", "one two three", "one", 0.25),
    pair("a", "one", "one two", 0.5),
    pair("b", "one two", "one two", 0.75),
    pair("c", "one two", "one", 2.25),
]


def test_quartiles_lengths_and_histogram():
    found = pair_figures(PAIRS)
    assert (found["pairs"], found["prompts"]) == (4, 3)
    assert found["gap"] == {
        "mean": 0.9375, "min": 0.25, "quarter": 0.4375, "median": 0.625,
        "three quarters": 1.125, "max": 2.25,
    }  # fmt: skip
    # bins of 0.25 from 0.25 to 2.25
    assert [count for *_, count in found["gap_histogram"]] == [1, 1, 1, 0, 0, 0, 0, 1]
    assert found["gap_histogram"][0][:2] == [0.25, 0.5]
    assert found["words"] == {"chosen": 2.0, "rejected": 1.5}
    assert found["longer_chosen"] == 0.625  # two of four, and half of the even one


def test_the_histogram_is_as_wide_as_its_counts():
    rows = dict(pair_rows(pair_figures(PAIRS + PAIRS[:1])))
    assert rows["gap 0.25 … 0.50"].count("▇") == 24
    assert rows["gap 2.00 … 2.25"].count("▇") == 12 and "▇" not in rows["gap 1.00 … 1.25"]
    assert rows["pairs"] == "5 of 3 queries"


def test_equal_gaps_have_a_histogram_too():
    found = pair_figures(PAIRS[:1] * 3)
    assert sum(count for *_, count in found["gap_histogram"]) == 3
