"""What counts as a flawed reply."""

import pytest

from apc_cli.reports.style import distinct_2, flaws, length


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        ("I bake bread in Lund.", []),
        ("", ["empty"]),
        ("...", ["empty"]),
        ("Yes.", ["empty"]),
        ("Mara bakes bread every day.", ["third person"]),
        ("MARA bakes bread.", ["third person"]),
        ("Mara? That is me.", []),
        ("She bakes bread.", []),
        ("Maracas are loud.", []),
        ("I bakes bread.", ["wrong verb"]),
        ("On Sundays I always plays chess.", ["wrong verb"]),
        ("I doesn't bake, I has a cook.", ["wrong verb"]),
        ("I was late, as always. I focus. I dress well.", []),
        ("All my friends say that I bake. She plays.", []),
        ("Francis I rules France. World War I ends in 1918.", []),
        ("When I plays, my dog sings along.", ["wrong verb"]),
        ("I'm an AI, so I cannot bake.", ["as an AI"]),
        ("As a language model I cannot bake.", ["as an AI"]),
        ("I bake so much bread. " * 2, ["repeated"]),
        ("I bake bread. I sell it. I bake bread daily.", []),
        ("Never! Never! I bake bread.", []),
        ("I bake bread in the old mill, and I sleep in the old mill too.", []),
        ("I bake bread in the old mill, and eat bread in the old mill.", ["repeated"]),
        ("I live in Lund. \u79c1 I live in Lund.", []),
        ("I live in Lund. \u79c1\u3002 I live in Lund.", ["repeated"]),
        ("\u79c1\u306f\u6bce\u65e5\u672c\u3092\u8aad\u3080\u3002" * 2, ["repeated"]),
        ("\u306f\u3044\u3002\u306f\u3044\u3002\u672c\u3092\u8aad\u307f\u307e\u3059\u3002", []),
        ("I bake so much bread. " * 3, ["repeated"]),
        (" ".join(["I", "bake", "a"] + [f"{x} loaf" for x in "bcdefghij"] * 1), []),
        ("I " + "la le li lo lu la li le lu lo li la lo le la lu le li lo la", ["repeated"]),
    ],
)
def test_flaws(reply, found):
    assert flaws(reply, "Mara") == found


def test_a_title_in_the_name_is_not_the_name():
    assert flaws("The sea is calm.", "Alexander the Great") == []
    assert flaws("The sea is calm.", "The Doctor") == []
    assert flaws("Alexander sails.", "Alexander the Great") == ["third person"]


def test_chinese_and_japanese_count_by_character():
    natural = (
        "私は小さな町で生まれ、父の店を手伝いながら育ちました。朝は早く起きて、パンを焼くのが好きです。"
        "夜になると猫と遊び、友だちに手紙を書いてから、静かに眠ります。"
    )
    assert length("我住在伦敦。") == 5 and length("私はMara です") == 5
    assert flaws(natural, "マーラ") == []
    assert flaws("我很好。", "玛拉") == []
    assert flaws("マーラはパンを焼く。", "マーラ") == []
    assert flaws("私はパンを焼くのが好きです。" * 4, "マーラ") == ["repeated"]
    assert flaws("好", "玛拉") == ["empty"]


def test_words_said_twice_in_japanese_are_ten_characters():
    assert flaws("私は毎朝パンを焼きます。夜も毎朝パンを焼く。", "マーラ") == []
    assert flaws("朝は古い水車小屋でパンを焼き、夜は古い水車小屋でパンを食べる。", "マーラ") == [
        "repeated"
    ]


def test_distinct_2_by_hand():
    # (a b) (b a) (a b) | (a b): four pairs, two of them distinct
    assert distinct_2(["a b a b", "A b."]) == 2 / 4
    assert distinct_2(["a b c", "d e f"]) == 1.0
    assert distinct_2(["", "a"]) == 0.0
