"""Sentences of three languages, and long texts in parts."""

import pytest

from apc_cli.sentences import parts, sentences


@pytest.mark.parametrize(
    ("language", "expected"),
    [
        ("en", ["Dr. Ash lives in St. Ives.", 'She said "Hi!" and left.', "Why?"]),
        ("ja", ["こいしは「どこ？」と言った。", "姉はさとりだ。", "本当？", "うん！"]),
        ("zh", ["沈青禾住在临安。", "她修伞。", "真的吗？", "是的！"]),
    ],
)
def test_sentences_end_where_they_end(language, expected):
    assert sentences((" " if language == "en" else "").join(expected), language) == expected


@pytest.mark.parametrize(("language", "sentence"), [("en", "A cat sat."), ("zh", "她修好了伞。")])
def test_parts_are_cut_between_sentences_and_lose_nothing(language, sentence):
    space = " " if language == "en" else ""
    text = space.join([sentence] * 50)
    found = parts(text, language, 60, len)
    assert len(found) >= 5 and all(len(part) <= 60 for part in found)
    assert space.join(found) == text
    assert all(part.startswith(sentence[0]) and part.endswith(sentence[-1]) for part in found)
    assert parts(sentence, language, 60, len) == [sentence]


def test_a_sentence_without_an_end_is_cut():
    found = parts("無" * 200, "ja", 60, len)
    assert "".join(found) == "無" * 200 and max(map(len, found)) <= 60
