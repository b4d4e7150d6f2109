"""What an LLM says, in every dress and language that it comes in."""

import pytest

from apc_cli.models.llm.llm_labels import parse_nli, parse_relevance
from apc_cli.models.llm.llm_parsers import (
    names,
    parse_answer,
    parse_queries,
    parse_replies,
    parse_statements,
)

THREE = {"entailed": "Yes, I do.", "neutral": "Who asks?", "contradicted": "No, I do not."}


@pytest.mark.parametrize(
    "text",
    [
        "- Alice is tall.\n- Alice has a cat.",
        "1. Alice is tall.\n2) Alice has a cat.",
        "(1) Alice is tall.\n\n(2) Alice has a cat.",
        "Here are the facts about Alice:\n\n* **Alice is tall.**\n* Alice has\n  a cat.\n\nDone!",
        "Sure! Here they are:\nAlice is tall.\nAlice has a cat.\n",
        '```json\n["Alice is tall.", "Alice has a cat.",]\n```',
        'The list:\n{"statements": [{"text": "Alice is tall."}, {"text": "Alice has a cat."}]}',
        "• “Alice is tall.”\n• 「Alice has a cat.」\n• She is kind.\n• Alice is tall.",
        "<think>- Alice is short.\nHm.</think>\n- Alice is tall.\n- Alice has a cat.",
        "pondering aloud</think>- Alice is tall.\n- Alice has a cat.",
    ],
)
def test_statements_are_read_in_every_dress(text):
    assert parse_statements(text, "Alice") == ["Alice is tall.", "Alice has a cat."]


def test_statements_keep_what_belongs_to_them():
    text = "- Alice was born in 1815.[1]\n- Alice owns 3.5 boats - all red."
    assert parse_statements(text, "Alice Ash") == [
        "Alice was born in 1815.[1]",
        "Alice owns 3.5 boats - all red.",
    ]
    assert parse_statements("- Malice is bad.\n- ed Alice won.", "Ed") == ["ed Alice won."]


def test_a_paragraph_without_statements_is_an_answer_but_no_list_is_none():
    for text in ("none", "None.", "[]", "- none", "No statements about Alice."):
        assert parse_statements(text, "Alice") == []
    for text in ("", "  ", "I have read it.", '{"error": 1}', "<think>Alice is tall. Alice"):
        assert parse_statements(text, "Alice") is None


@pytest.mark.parametrize(
    "text",
    ["I'm sorry, but I can't help with that, Alice.", "I cannot assist with this request."]
    + ["As an AI language model, I won't write about Alice.", "“Sorry, I can’t do that.”"],
)
def test_a_refusal_is_no_data(text):
    assert parse_statements(text, "Alice") is None
    assert parse_queries(text, 3) is None
    assert parse_replies(text) is None


def test_queries_are_unquoted_distinct_and_no_more_than_asked_for():
    text = 'Here you go:\n1. "Where do you live?"\n2. Where do you live?\n3. Your home?\n4. Sea?'
    assert parse_queries(text, 2) == ["Where do you live?", "Your home?"]
    assert parse_queries("- I can't help wondering: do you write?", 3) is not None
    assert parse_queries("```\n```", 3) is None


@pytest.mark.parametrize("text", ["yes", "Yes.", " **YES**", '{"answer": "yes"}', "Answer: yes"])
def test_yes_is_read(text):
    assert parse_relevance(text) == "yes"


def test_no_is_read_and_the_rest_is_not():
    assert parse_relevance("No, although yes would be kind.") == "no"
    for text in ("", "maybe", "yes or no", "yes/no", "It is not a yes", "Nobody knows"):
        assert parse_relevance(text) is None


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("contradict", "contradicted"),
        ("Contradicted.", "contradicted"),
        ("The reply contradicts the claim.", "contradicted"),
        ("```\nneutral\n```", "neutral"),
        ("“Neutral”, it leaves it open", "neutral"),
        ("entailment", "entailed"),
        ('{"label": "Entailed"}', "entailed"),
        ("entailed: not contradicted", "entailed"),
        ("It is not entailed.", None),
        ("It isn't really entailed.", None),
        ("either neutral or entailed", None),
        ("neutral/entailed", None),
        ("unclear", None),
    ],
)
def test_nli_labels_are_read_by_any_of_their_names(text, label):
    assert parse_nli(text) == label


@pytest.mark.parametrize(
    "text",
    [
        "Shared: calm.\nEntailed: Yes, I do.\nNeutral: Who asks?\nContradicted: No, I do not.",
        "**Shared:** calm\n\n**Contradict:** No, I do not.\n**Neutral**: Who asks?\n"
        '**Entailment:** "Yes,\nI do."',
        "Shared\ncalm\n### Entailed\nYes, I do.\n### Neutral reply\nWho asks?\n### Contradicted\n"
        "No, I do not.",
        "1. Entailed: Yes, I do.\n2. Neutral: Who asks?\n3. Contradicted: No, I do not.",
        '```json\n{"shared": "calm", "entailed": "Yes, I do.", "neutral": "Who asks?",\n'
        '"contradicted": "No, I do not.",}\n```',
    ],
)
def test_replies_are_read_in_every_dress(text):
    assert parse_replies(text) == THREE


@pytest.mark.parametrize(
    "text",
    [
        "Entailed: Yes.\nNeutral: Who asks?",
        "Entailed: Yes.\nNeutral: Yes.\nContradicted: No.",
        "Entailed: Yes.\nEntailed: Sure.\nNeutral: Hm.\nContradicted: No.",
        "Entailed:\nNeutral: Hm.\nContradicted: No.",
        '{"entailed": 1, "neutral": 2, "contradicted": 3}',
        "Yes. Hm. No.",
    ],
)
def test_three_replies_that_are_not_three_are_none(text):
    assert parse_replies(text) is None


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ('"I hum.\nAll day."', "I hum. All day."),
        ("<think>Humming?</think>I hum.", "I hum."),
        ("I'm sorry, but I can't help with that.", None),
        ("  ", None),
    ],
)
def test_an_answer_is_read_as_one_line(text, answer):
    assert parse_answer(text) == answer


JAPANESE = ["古明地こいしは地底に住んでいる。", "こいしは帽子をかぶっている。"]


@pytest.mark.parametrize(
    "text",
    [
        '{"statements": ["古明地こいしは地底に住んでいる。", "こいしは帽子をかぶっている。"]}',
        "1．古明地こいしは地底に住んでいる。\n２．こいしは帽子をかぶっている。",
        "①古明地こいしは地底に住んでいる。\n②こいしは帽子をかぶっている。",
        "以下の通りです：\n・「古明地こいしは地底に住んでいる。」\n・こいしは帽子をかぶっている。\n・彼女は妹である。",
        "```json\n{“statements”：［“古明地こいしは地底に住んでいる。”，“こいしは帽子をかぶっている。”，］}\n```",
        "１、古明地こいしは地底に住んでいる。\n２、こいしは帽子をかぶっている。\n",
    ],
)
def test_japanese_statements_are_read_in_every_dress(text):
    assert parse_statements(text, "古明地こいし") == JAPANESE


def test_a_relative_of_the_same_family_name_is_somebody_else():
    assert parse_statements(
        "- 古明地さとりは姉である。\n- 古明地こいしは妹だ。", "古明地こいし"
    ) == ["古明地こいしは妹だ。"]
    assert parse_statements("- 青禾会弹琴。\n- 沈青禾会弹琴。", "沈青禾") == ["沈青禾会弹琴。"]


@pytest.mark.parametrize("text", ["なし", "特にありません。", "无。", "没有", '{"statements": []}'])
def test_nothing_is_said_in_every_language(text):
    assert parse_statements(text, "沈青禾") == []


@pytest.mark.parametrize(
    "text",
    [
        "申し訳ありませんが、そのご要望にはお応えできません。対応できかねます。",
        "申し訳ございませんが、お手伝いできません。",
        "抱歉，我无法提供这方面的内容。",
        "很抱歉，我不能协助完成这个请求。",
        "作为一个AI语言模型，我不能回答。",
    ],
)
def test_a_refusal_in_any_language_is_no_data(text):
    assert parse_answer(text) is None
    assert parse_queries(text, 3) is None


def test_an_apology_in_character_is_an_answer():
    assert parse_answer("すみません、帽子を探していて。") == "すみません、帽子を探していて。"
    assert parse_answer("抱歉，我来晚了。") == "抱歉，我来晚了。"


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("はい", "yes"), ("「はい」", "yes"), ("答え：はい。", "yes"),
        ("いいえ、尋ねていません。", "no"),
        ("はいかいいえ", None), ("わかりません", None), ("是", "yes"), ("是的。", "yes"),
        ("答案：否", "no"), ("不是", "no"), ("是否需要", None), ("这是一个问题", None),
    ],
)  # fmt: skip
def test_yes_and_no_in_japanese_and_chinese(text, label):
    assert parse_relevance(text) == label


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("含意", "entailed"), ("「矛盾」", "contradicted"), ("判定：中立", "neutral"),
        ("この返事は記述と矛盾しています。", "contradicted"), ("矛盾しない", None),
        ("矛盾はありません", None), ("蕴含", "entailed"), ("答案：矛盾。", "contradicted"),
        ("并不矛盾", None), ("没有矛盾", None), ("含意、中立、矛盾", None), ("中立。", "neutral"),
    ],
)  # fmt: skip
def test_nli_labels_in_japanese_and_chinese(text, label):
    assert parse_nli(text) == label


@pytest.mark.parametrize(
    "text",
    [
        "共通：穏やか\n含意：住んでるよ。\n中立：どうかな。\n矛盾：住んでないよ。",
        "【共通点】\n穏やか\n【含意】\n住んでるよ。\n【中立】\nどうかな。\n【矛盾】\n住んでないよ。",
        "{“shared”：“穏やか”，“entailed”：“住んでるよ。”，“neutral”：“どうかな。”，“contradicted”：“住んでないよ。”}",
    ],
)
def test_japanese_replies_are_read_in_every_dress(text):
    found = parse_replies(text)
    assert found == {
        "entailed": "住んでるよ。",
        "neutral": "どうかな。",
        "contradicted": "住んでないよ。",
    }


def test_quotes_within_a_text_stay():
    text = '{"queries": ["你说过“再见”吗？", "彼は「行く」と言った？"]}'
    assert parse_queries(text, 3) == ["你说过“再见”吗？", "彼は「行く」と言った？"]


@pytest.mark.parametrize(
    ("character", "sentence", "named"),
    [
        ("マリー・キュリー", "マリーは二つの賞を得た。", True),
        ("マリー・キュリー", "キュリーは放射能を調べた。", True),
        ("霧雨 魔理沙", "霧雨は森に住む。", True),
        ("安娜·卡列尼娜", "安娜爱上了一位军官。", True),
        ("古明地こいし", "こいしは地底に住む。", True),
        ("古明地こいし", "古明地さとりは心を読む。", False),
        ("李·白", "李子很甜。", False),
        ("沈青禾", "青禾怕打雷。", False),
    ],
)
def test_parts_of_chinese_and_japanese_names_name_the_character(character, sentence, named):
    assert names(sentence, character) == named


@pytest.mark.parametrize("text", ["不用。", "无需提到。", "没有必要。", "不必", "答案：不用"])
def test_there_is_no_need_means_no(text):
    assert parse_relevance(text) == "no"
