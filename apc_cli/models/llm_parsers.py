"""What an LLM teacher's replies say, however they are dressed; None where that cannot be told."""

import json
import re
from typing import Any

from apc_cli.records import NLI_LABELS, RELEVANCE_LABELS

_THOUGHT = re.compile(r"^.*</think>|^\s*<think>.*$", re.DOTALL)
_FENCE = re.compile(r"```[\w-]*[ \t]*\n?(.*?)```", re.DOTALL)
_JSON_START = re.compile(r"^[ \t]*[\[{]", re.MULTILINE)
_TRAILING_COMMA = re.compile(r",(\s*[\]}])")
_BULLET = re.compile(r"^\s*(?:\*\s+|[-+•–—·・]\s*(?=[^-\s])|\(?\d{1,3}[.):、]\)?\s+)")
_NOTHING = re.compile(r"^\W*(?:none|nothing|n/?a|no (?:facts|statements)\b.*)\W*$", re.IGNORECASE)
_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "«": "»", "「": "」", "『": "』", "`": "`"}
_REFUSAL = re.compile(
    r"^[\s\"'“*]*"
    r"(?:(?:I'm|I’m|I am) (?:very |so |really )?sorry\b|sorry,|unfortunately, I\b"
    r"|as an? (?:AI|language model)\b"
    r"|(?:I|we) (?:can't|can’t|cannot|won't|won’t|am unable|am not able|are unable)\b)"
    r".{0,80}?"
    r"\b(?:assist|help|comply|provide|fulfil|create|generate|write|continue|answer|do that)",
    re.IGNORECASE | re.DOTALL,
)
_SECTION = re.compile(
    r"^[^\w\n]*(?:\d+[.)][^\w\n]*)?"
    r"(?P<name>shared|common|in common|entail\w*|neutral|contradict\w*)"
    r"(?:[ \t]+(?:reply|response|answer|line))?"
    r"[ \t*_]*(?::[ \t*_]*|(?=\n|$))",
    re.IGNORECASE | re.MULTILINE,
)
_NLI_WORDS = {
    "contradicted": r"contradict(?:s|ed|ion|ory|ing)?",
    "neutral": r"neutral(?:ity)?",
    "entailed": r"entail(?:s|ed|ment|ing)?",
}
_RELEVANCE_WORDS = {label: label for label in RELEVANCE_LABELS}
_NEGATION = r"(?:\bnot\b|n't\b|n’t\b|\bneither\b|\bnor\b|\bnever\b)\W+(?:\w+\W+)?"


def parse_statements(text: str, character: str) -> list[str] | None:
    """The listed sentences that name the character; [] when the reply says there are none.

    Entries that do not name it, such as a preamble or "She is tall.", are left out.

    "- Ada was born in Oster." -> ["Ada was born in Oster."]
    """
    answer = _answer(text)
    if answer is None:
        return None
    if _NOTHING.match(answer):
        return []
    items = _items(answer)
    named = [item for item in _distinct(items) if _names(item, character)]
    return named if named or items == [] else None


def parse_queries(text: str, count: int) -> list[str] | None:
    """Up to `count` different utterances."""
    answer = _answer(text)
    if answer is None:
        return None
    return _distinct(_items(answer) or [])[:count] or None


def parse_relevance(text: str) -> str | None:
    """One of RELEVANCE_LABELS."""
    return _one_label(text, _RELEVANCE_WORDS)


def parse_nli(text: str) -> str | None:
    """One of NLI_LABELS."""
    return _one_label(text, _NLI_WORDS)


def parse_replies(text: str) -> dict[str, str] | None:
    """One reply for each NLI label; None unless there are exactly three different ones."""
    answer = _answer(text)
    if answer is None:
        return None
    value = _json(answer)
    sections = list(value.items()) if isinstance(value, dict) else _sections(answer)
    replies: dict[str, str] = {}
    for name, reply in sections:
        label = _nli_label(name)
        if label is None:
            continue
        if label in replies or not isinstance(reply, str):
            return None
        replies[label] = _plain(reply)
    complete = set(replies) == set(NLI_LABELS) and all(replies.values())
    return replies if complete and len(set(replies.values())) == len(NLI_LABELS) else None


def parse_answer(text: str) -> str | None:
    """The answer on one line, without enclosing quotes; None for a refusal or nothing."""
    answer = _answer(text)
    return (_plain(answer) or None) if answer else None


def _answer(text: str) -> str | None:
    """The reply proper: no thoughts, no code fence; None when it is a refusal or empty."""
    text = _THOUGHT.sub("", text).strip()
    if fenced := _FENCE.search(text):
        text = fenced.group(1).strip()
    return None if not text or _REFUSAL.match(text) else text


def _json(text: str) -> Any:
    """The JSON that ends the text and starts on a line of its own; None when there is none."""
    start = _JSON_START.search(text)
    if not start or not text.endswith(("]", "}")):
        return None
    try:
        return json.loads(_TRAILING_COMMA.sub(r"\1", text[start.start() :]))
    except (ValueError, RecursionError):
        return None


def _items(text: str) -> list[str] | None:
    """The entries of a list in JSON or in lines; None when JSON holds no list of texts."""
    value = _json(text)
    if isinstance(value, dict):
        value = next((entry for entry in value.values() if isinstance(entry, list)), None)
        if value is None:
            return None
    if isinstance(value, list):
        return [_plain(entry) for entry in map(_text_of, value) if entry]
    lines = [line for line in text.splitlines() if line.strip()]
    if any(_BULLET.match(line) for line in lines):
        entries = _joined(lines)
    else:
        entries = [line for line in lines if not line.rstrip().endswith((":", "："))]
    return [plain for plain in map(_plain, entries) if plain]


def _joined(lines: list[str]) -> list[str]:
    """The bulleted lines without bullets, each with the indented lines that continue it."""
    entries: list[str] = []
    for line in lines:
        bare, bullets = _BULLET.subn("", line)
        if bullets:
            entries.append(_BULLET.sub("", bare))
        elif entries and line[0].isspace():
            entries[-1] += " " + line.strip()
    return entries


def _text_of(entry: Any) -> str:
    """The text of a JSON list entry: a string, or the first string of an object."""
    if isinstance(entry, dict):
        entry = next((value for value in entry.values() if isinstance(value, str)), "")
    return entry if isinstance(entry, str) else ""


def _plain(text: str) -> str:
    """The text on one line, without enclosing quotes and emphasis."""
    text = " ".join(text.split())
    while len(text) > 1:
        if text.startswith("**") and text.endswith("**"):
            text = text.strip("*").strip()
        elif _QUOTES.get(text[0]) == text[-1] and text[-1] not in text[1:-1]:
            text = text[1:-1].strip()
        else:
            break
    return text


def _distinct(items: list[str] | None) -> list[str]:
    return list(dict.fromkeys(items or []))


def _names(sentence: str, character: str) -> bool:
    """Whether the sentence holds the character's name or a whole word of it."""
    if re.search(rf"(?<!\w){re.escape(character)}(?!\w)", sentence, re.IGNORECASE):
        return True
    words = set(re.findall(r"\w+", sentence))
    return any(len(part) > 2 and part[0].isupper() and part in words for part in character.split())


def _sections(text: str) -> list[tuple[str, str]]:
    """(heading, text under it) for each heading of a labelled reply."""
    found = list(_SECTION.finditer(text))
    ends = [match.start() for match in found[1:]] + [len(text)]
    return [(m["name"], text[m.end() : end]) for m, end in zip(found, ends, strict=False)]


def _nli_label(word: str) -> str | None:
    starts = {"contradict": "contradicted", "neutral": "neutral", "entail": "entailed"}
    return next((v for k, v in starts.items() if word.strip().lower().startswith(k)), None)


def _one_label(text: str, words: dict[str, str]) -> str | None:
    """The label that the reply opens with, else the only one that it mentions, unnegated."""
    answer = _answer(text)
    if answer is None:
        return None
    for label, pattern in words.items():
        if re.match(rf"\W*{pattern}\b(?!\W+or\b|\s*/)", answer, re.IGNORECASE):
            return label
    mentioned = [w for w, p in words.items() if re.search(rf"\b{p}\b", answer, re.IGNORECASE)]
    if len(mentioned) != 1:
        return None
    negated = rf"{_NEGATION}{words[mentioned[0]]}\b"
    return None if re.search(negated, answer, re.IGNORECASE) else mentioned[0]
