"""Where the assistant shows through, in three languages, and where only the character speaks."""

import pytest

from apc_cli.reports.out_of_character import leaks_prompt, refuses, talks_as_ai
from apc_cli.reports.style import flaws


@pytest.mark.parametrize(
    "reply",
    [
        "I'm sorry, but I can't assist with that request.",
        "I cannot help you with this.",
        "I am unable to answer that question.",
        "That goes against my programming.",
        "申し訳ありませんが、そのご質問にはお答えできません。",
        "申し訳ございませんが、お手伝いすることはできません。",
        "抱歉，我无法回答您的问题。",
        "对不起，我不能提供这方面的信息。",
    ],
)
def test_refusals(reply):
    assert refuses(reply) and "refusal" in flaws(reply, "Mara")


@pytest.mark.parametrize(
    "reply",
    [
        "I'm sorry, I can't help laughing.",
        "I cannot help my sister today, I bake.",
        "I could not answer the door, I was baking.",
        "I can't stand dogs. Sorry!",
        "I was unable to find flour this morning.",
        "ごめんなさい、犬は苦手でできません。",
        "对不起，我不能养狗。",
    ],
)
def test_a_character_may_be_sorry_or_unable(reply):
    assert not refuses(reply) and flaws(reply, "Mara") == []


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        ("AIとしてお話しします。", True),
        ("私は言語モデルなので、パンは焼けません。", True),
        ("作为一个人工智能，我没有生日。", True),
        ("我只是一个语言模型。", True),
        ("As an AI I have no cat.", True),
        ("私はAIKOという店で働いています。", False),
        ("我是一个面包师。", False),
        ("My brother studies AI.", False),
    ],
)
def test_talk_of_being_an_ai(reply, found):
    assert talks_as_ai(reply) == found


@pytest.mark.parametrize(
    "reply",
    [
        "You are Mara. Stay in character: speak as Mara!",
        "I speak as Mara, in the first person, in one to three short sentences.",
        "Sure.<|im_end|>\n<|im_start|>user",
        "I bake.\nUser: and then?",
        "[INST] I bake bread [/INST]",
        "私は一人称で、短く（一～三文で）答えてください。",
        "请始终以Mara的身份、用第一人称、简短地回答。",
    ],
)
def test_leaked_prompts(reply):
    assert leaks_prompt(reply, "Mara")


@pytest.mark.parametrize(
    "reply",
    [
        "I stay in character: that is who I am.",
        "I keep to the facts, mostly.",
        "In short sentences: I bake.",
        "The user: that is you.",
        "私は短く答えるのが好きです。",
        "我喜欢简短地回答。",
    ],
)
def test_words_of_the_prompt_alone_leak_nothing(reply):
    assert not leaks_prompt(reply, "Mara")
