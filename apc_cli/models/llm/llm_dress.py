"""What a reply is dressed in: thoughts, code fences, quotes, bullets, JSON that is nearly JSON."""

import json
import re
from typing import Any

_THOUGHT = re.compile(r"^.*</think>|^\s*<think>.*$", re.DOTALL)
_FENCE = re.compile(r"```[\w-]*[ \t]*\n?(.*?)```", re.DOTALL)
_JSON_START = re.compile(r"^[ \t]*[\[{]", re.MULTILINE)
_TRAILING_COMMA = re.compile(r"[,，、](\s*[\]}])")
_CURLY_STRING = re.compile(r"(?<=[\[{,:\s［｛，：])[“”„](.*?)[“”](?=\s*[\]},:］｝，：])", re.DOTALL)
_WIDE = str.maketrans("：，［］｛｝＂", ':,[]{}"')
_WIDE_JSON = re.compile(r'"(?:[^"\\]|\\.)*"|[：，［］｛｝＂]', re.DOTALL)
_BULLET = re.compile(
    r"^\s*(?:\*\s+|[-+•–—·・●○◆■※－]\s*(?=[^-\s])"
    r"|[(（]?\d{1,3}(?:[.):]\)?\s+|[、．）：]\s*|\.(?=[^\d\s]))|[①-⑳]\s*)"
)
_QUOTES = {
    '"': '"', "'": "'", "“": "”", "‘": "’", "«": "»", "「": "」", "『": "』", "`": "`", "《": "》",
}  # fmt: skip
_REFUSAL = re.compile(
    r"^[\s\"'“「*]*(?:"
    r"(?:(?:I'm|I’m|I am) (?:very |so |really )?sorry\b|sorry,|unfortunately, I\b"
    r"|as an? (?:AI|language model)\b"
    r"|(?:I|we) (?:can't|can’t|cannot|won't|won’t|am unable|am not able|are unable)\b)"
    r".{0,80}?"
    r"\b(?:assist|help|comply|provide|fulfil|create|generate|write|continue|answer|do that)"
    r"|(?:申し訳(?:ありません|ございません)|すみません|恐れ入りますが).{0,60}?"
    r"(?:お手伝い|お答え|対応|ご要望|生成|作成|提供).{0,12}?(?:でき|いたしかね|かねます)"
    r"|(?:AI|人工知能|言語モデル)として.{0,60}?(?:できません|いたしかね)"
    r"|(?:很?抱歉|对不起|不好意思|作为(?:一个|一名)?(?:AI|人工智能|语言模型)).{0,40}?"
    r"(?:无法|不能|不便)(?:提供|协助|帮助|回答|生成|满足|完成|继续|编写|处理)"
    r")",
    re.IGNORECASE | re.DOTALL,
)


def undressed(text: str) -> str | None:
    """The reply proper: no thoughts, no code fence; None when it is a refusal or empty."""
    text = _THOUGHT.sub("", text).strip()
    if fenced := _FENCE.search(text):
        text = fenced.group(1).strip()
    return None if not text or _REFUSAL.match(text) else text


def json_in(text: str) -> Any:
    """The JSON that ends the text and starts on a line of its own; None when there is none.

    Trailing commas, typographic quotes around strings and full-width punctuation are forgiven.
    """
    start = _JSON_START.search(text) or re.match(r"\s*[［｛]", text)
    if not start or not text.endswith(("]", "}", "］", "｝")):
        return None
    written = text[start.start() :]
    repaired = _CURLY_STRING.sub(lambda m: json.dumps(m[1], ensure_ascii=False), written)
    narrow = _WIDE_JSON.sub(lambda m: m[0] if m[0][0] == '"' else m[0].translate(_WIDE), repaired)
    for attempt in (written, repaired, narrow):
        try:
            return json.loads(_TRAILING_COMMA.sub(r"\1", attempt))
        except (ValueError, RecursionError):
            continue
    return None


def items_in(text: str) -> list[str] | None:
    """The entries of a list in JSON or in lines; None when JSON holds no list of texts."""
    value = json_in(text)
    if isinstance(value, dict):
        value = next((entry for entry in value.values() if isinstance(entry, list)), None)
        if value is None:
            return None
    if isinstance(value, list):
        return [plain(entry) for entry in map(_text_of, value) if entry]
    lines = [line for line in text.split("\n") if line.strip()]
    if any(_BULLET.match(line) for line in lines):
        entries = _joined(lines)
    else:
        entries = [line for line in lines if not line.rstrip().endswith((":", "："))]
    return [found for found in map(plain, entries) if found]


def plain(text: str) -> str:
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
