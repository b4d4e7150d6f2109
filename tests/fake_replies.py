"""What the fake server answers: a pure function of the messages, good enough for every prompt."""

import json
import math
import re
from typing import Any

_COMMON_WORDS = frozenset(
    "a an and are at be do does did has have her his i in is it its my of on or she he that the "
    "they to was were what when where which who why with you your about tell me not true says "
    "reply long ago how many know".split()
)
_CJK = r"\u3040-\u30ff\u3400-\u9fff"
_LABELS = {
    "en": {"yes": "Yes.", "no": "No.", "e": "Entailed.", "n": "neutral", "c": "contradict"},
    "ja": {"yes": "はい。", "no": "いいえ", "e": "含意", "n": "中立", "c": "矛盾"},
    "zh": {"yes": "是的。", "no": "否", "e": "蕴含", "n": "中立", "c": "矛盾"},
}
_SAYINGS = {
    "en": ("Well, it is said that {}", "Well, let us speak of something else, my friend.",
           "Well, it is not true that {}"),
    "ja": ("そうだね、「{}」って言われてるよ。", "そうだね、別の話をしようよ。",
           "そうだね、「{}」なんて嘘だよ。"),
    "zh": ("嗯，大家都说：{}", "嗯，我们聊点别的吧。", "嗯，“{}”这话是假的。"),
}  # fmt: skip
_LIES = ("not true", "嘘", "假的")


def reply_to(messages: list[dict[str, str]], *, as_json: bool = False) -> str:
    """A sensible answer to the teacher's prompts; an echo of anything else."""
    text = messages[-1]["content"]
    tags = dict(re.findall(r"<(\w+)>\s*(.*?)\s*</\1>", text, re.DOTALL))
    statement, language = tags.get("statement", ""), _language(text)
    if "facts" in tags:
        return '"Well, ' + tags["facts"].replace("- ", "") + '"'
    if "paragraph" in tags:
        return _listed("statements", _statements(text, tags["paragraph"]), as_json)
    if "response" in tags:
        return _LABELS[language][_nli(statement, tags["response"])]
    if '"contradicted"' in text:
        return _replies(statement, language, as_json)
    if "utterance" in tags:
        related = _words(statement) & _words(tags["utterance"])
        return _LABELS[language]["yes" if related else "no"]
    if statement:
        topic = " ".join(sorted(_words(statement))[:3])
        asked = ("What about {}?", "How long ago was it, {}?", "Tell me: {}.")
        return _listed("queries", [question.format(topic) for question in asked], as_json)
    return f"echo: {text}"


def logprobs_of(content: str, top: int) -> dict[str, Any]:
    """The tokens of a one-word answer, the first sure to nine parts in ten."""
    first, rest = (content[:2], content[2:]) if content[0].isascii() else (content[0], content[1:])
    others = ("Y", "No", "neu", "Cont", " ent", "い", "は", "否", "中", "矛", "蕴", "含", "是")
    odds = [(first, 0.9), *((other, 0.01) for other in others if other[:2] != first)]
    alternatives = [_entry(text, p) for text, p in odds[:top]]
    tokens = [_entry(first, 0.9) | {"top_logprobs": alternatives}]
    if rest:
        tokens.append(_entry(rest, 1.0) | {"top_logprobs": [_entry(rest, 1.0)]})
    return {"content": tokens}


def usage_of(messages: list[dict[str, str]], content: str) -> dict[str, int]:
    """Tokens of four letters, or of one Chinese or Japanese character."""
    counts = [sum(_tokens(turn["content"]) for turn in messages), _tokens(content)]
    return {"prompt_tokens": counts[0], "completion_tokens": counts[1], "total_tokens": sum(counts)}


def _tokens(text: str) -> int:
    dense = len(re.findall(f"[{_CJK}]", text))
    return 4 + dense + (len(text) - dense) // 4


def _entry(text: str, probability: float) -> dict[str, Any]:
    return {"token": text, "bytes": list(text.encode()), "logprob": math.log(probability)}


def _language(text: str) -> str:
    return (
        "ja"
        if re.search(r"[\u3040-\u309f]{2}", text)
        else "zh"
        if "一" in text or "有" in text
        else "en"
    )


def _listed(name: str, items: list[str], as_json: bool) -> str:
    if as_json:
        return json.dumps({name: items}, ensure_ascii=False)
    return "\n".join(f"- {item}" for item in items) or "none"


def _statements(text: str, paragraph: str) -> list[str]:
    name = re.search(r"(?:Character|キャラクター|角色)[:：]\s*(.*)", text)[1]
    sentences = re.split(r"(?<=[.!?])\s+|(?<=[。！？])", " ".join(paragraph.split()))
    named = [re.sub(r"^(?:She|He|They|It)\b", name, s) for s in sentences if s]
    return [s if name in s else f"{name}: {s}" for s in named]


def _replies(statement: str, language: str, as_json: bool) -> str:
    said = [saying.format(statement) for saying in _SAYINGS[language]]
    names = ("entailed", "neutral", "contradicted")
    if as_json:
        replies = {"shared": "short", **dict(zip(names, said, strict=True))}
        return json.dumps(replies, ensure_ascii=False)
    lines = [f"{name.capitalize()}: {text}" for name, text in zip(names, said, strict=True)]
    return "\n".join(["Shared: a short and friendly answer.", *lines])


def _nli(statement: str, response: str) -> str:
    overlap = len(_words(statement) & _words(response)) / max(1, len(_words(statement)))
    if overlap < 0.6:
        return "n"
    return "c" if any(lie in response for lie in _LIES) else "e"


def _words(text: str) -> set[str]:
    """Words of English; pairs of characters of Chinese and Japanese."""
    english = set(re.findall(r"[a-z]{3,}", text.lower())) - _COMMON_WORDS
    runs = re.findall(rf"[{_CJK}]+", text)
    return english | {run[i : i + 2] for run in runs for i in range(len(run) - 1)}
