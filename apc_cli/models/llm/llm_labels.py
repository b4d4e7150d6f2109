"""The labels of a judgement, in the words of every language that a teacher may use."""

import re
from collections.abc import Mapping, Sequence

from apc_cli.models.llm.llm_dress import undressed

RELEVANCE_WORDS = {
    "no": ("no", "いいえ", "否", "不是", "不用", "无需", "没有必要"),
    "yes": ("yes", "はい", "是"),
}
NLI_WORDS = {
    "contradicted": ("contradict", "矛盾"),
    "neutral": ("neutral", "中立"),
    "entailed": ("entail", "含意", "蕴含", "蘊含"),
}
"""Label → the beginnings of the words that say it, in lower case."""

_OPENING = r"\W*(?:(?:answer|label|verdict|答え|回答|判定|答案|结论|判断)\W*(?:は|是|为)?\W*)?"
_ALTERNATIVE = (
    r"(?!\W+or\b|\s*/|\s*[／、,，か]\s*(?:はい|いいえ|含意|矛盾|中立|蕴含|是|否)|或|还是)"
)
_NEGATION = r"(?:\bnot\b|n't\b|n’t\b|\bneither\b|\bnor\b|\bnever\b)\W+(?:\w+\W+)?"
_NOT_AT_ALL = r"(?!し(?:ない|ません|てい(?:ない|ません))|[はが]?(?:ない|ありません)|では)"
_RELEVANCE_SAID = {
    "no": r"no\b|いいえ|否|不是|不需要|不必|不用|无需|没有必要",
    "yes": r"yes\b|はい|是(?![否不])|需要",
}
_NLI_SAID = {
    "contradicted": rf"contradict(?:s|ed|ion|ory|ing)?\b|(?<![不没无])(?<!没有)矛盾{_NOT_AT_ALL}",
    "neutral": rf"neutral(?:ity)?\b|(?<![不非])中立{_NOT_AT_ALL}",
    "entailed": rf"entail(?:s|ed|ment|ing)?\b|(?<![不没])(?:含意|蕴含|蘊含){_NOT_AT_ALL}",
}


def parse_relevance(text: str) -> str | None:
    """One of RELEVANCE_LABELS."""
    return _one_label(text, _RELEVANCE_SAID, anywhere=("no", "yes"))


def parse_nli(text: str) -> str | None:
    """One of NLI_LABELS."""
    return _one_label(text, _NLI_SAID, anywhere=tuple(_NLI_SAID))


def nli_label(word: str) -> str | None:
    """The label that a word or a heading names."""
    start = word.strip().lower()
    return next((label for label, forms in NLI_WORDS.items() if start.startswith(forms)), None)


def _one_label(text: str, said: Mapping[str, str], anywhere: Sequence[str]) -> str | None:
    """The label that the reply opens with, else the only one that it mentions, unnegated.

    Chinese and Japanese words for yes and no are parts of other words: only an opening counts.
    """
    answer = undressed(text)
    if answer is None:
        return None
    for label, pattern in said.items():
        if re.match(rf"{_OPENING}(?:{pattern}){_ALTERNATIVE}", answer, re.IGNORECASE):
            return label
    inside = {label: _inside(said[label]) for label in anywhere}
    mentioned = [label for label, p in inside.items() if re.search(p, answer, re.IGNORECASE)]
    if len(mentioned) != 1:
        return None
    negated = rf"{_NEGATION}(?:{inside[mentioned[0]]})"
    return None if re.search(negated, answer, re.IGNORECASE) else mentioned[0]


def _inside(pattern: str) -> str:
    """The pattern where it may stand within a reply: yes and no only in English."""
    first, rest = pattern.split("|", 1)
    return rf"\b{first}" if "yes" in first or "no\\b" in first else rf"\b{first}|{rest}"
