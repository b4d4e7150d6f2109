"""What an LLM teacher's replies say, however they are dressed; None where that cannot be told."""

import re

from apc_cli.models.llm.llm_dress import items_in, json_in, plain, undressed
from apc_cli.models.llm.llm_labels import nli_label
from apc_cli.records import NLI_LABELS

_NOTHING = re.compile(
    r"^\W*(?:none|nothing|n/?a|no (?:facts|statements)\b.*"
    r"|(?:特に)?(?:なし|ありません|ない)|无|没有)\W*$",
    re.IGNORECASE,
)
_SECTION = re.compile(
    r"^[^\w\n]*(?:\d+[.)、．]?[^\w\n]*)?"
    r"(?P<name>shared|common|in common|entail\w*|neutral|contradict\w*"
    r"|共通(?:点)?|共有|共同(?:点)?|含意|蕴含|蘊含|中立|矛盾)"
    r"(?:[ \t]+(?:reply|response|answer|line)|の返事|的?回答)?"
    r"[ \t*_」】]*(?:[:：][ \t*_]*|(?=\n|$))",
    re.IGNORECASE | re.MULTILINE,
)
_BETWEEN_PARTS = re.compile(r"[・·＝=\s]+")
_CJK = r"\u3005\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_SCRIPTS = re.compile(r"[\u3040-\u309f]+|[\u30a0-\u30ff]+|[\u3005\u3400-\u9fff\uf900-\ufaff]+")


def parse_statements(text: str, character: str) -> list[str] | None:
    """The listed sentences that name the character; [] when the reply says there are none.

    Entries that do not name it, such as a preamble or "She is tall.", are left out.

    "- Ada was born in Oster." -> ["Ada was born in Oster."]
    """
    answer = undressed(text)
    if answer is None:
        return None
    if _NOTHING.match(answer):
        return []
    items = items_in(answer)
    named = [item for item in _distinct(items) if names(item, character)]
    nothing = items is not None and all(_NOTHING.match(item) for item in items)
    return named if named or nothing else None


def parse_queries(text: str, count: int) -> list[str] | None:
    """Up to `count` different utterances."""
    answer = undressed(text)
    if answer is None:
        return None
    return _distinct(items_in(answer))[:count] or None


def parse_replies(text: str) -> dict[str, str] | None:
    """One reply for each NLI label; None unless there are exactly three different ones."""
    answer = undressed(text)
    if answer is None:
        return None
    value = json_in(answer)
    sections = list(value.items()) if isinstance(value, dict) else _sections(answer)
    replies: dict[str, str] = {}
    for name, reply in sections:
        label = nli_label(name)
        if label is None:
            continue
        if label in replies or not isinstance(reply, str):
            return None
        replies[label] = plain(reply)
    complete = set(replies) == set(NLI_LABELS) and all(replies.values())
    return replies if complete and len(set(replies.values())) == len(NLI_LABELS) else None


def parse_answer(text: str) -> str | None:
    """The answer on one line, without enclosing quotes; None for a refusal or nothing."""
    answer = undressed(text)
    return (plain(answer) or None) if answer else None


def _distinct(items: list[str] | None) -> list[str]:
    return list(dict.fromkeys(items or []))


def names(sentence: str, character: str) -> bool:
    """Whether the sentence holds the character's name or a part of it that is a name itself.

    The parts of a Chinese or Japanese name stand between points or spaces, as in マリー・キュリー;
    without any, its last run of one script is a part, as こいし of 古明地こいし. A single
    character is no part.
    """
    if re.search(rf"[{_CJK}]", character):
        parts = [part for part in _BETWEEN_PARTS.split(character) if part]
        if len(parts) == 1:
            parts = [character, *_SCRIPTS.findall(character)[1:][-1:]]
        return character in sentence or any(len(p) > 1 and p in sentence for p in parts)
    if re.search(rf"(?<!\w){re.escape(character)}(?!\w)", sentence, re.IGNORECASE):
        return True
    words = set(re.findall(r"\w+", sentence))
    return any(len(part) > 2 and part[0].isupper() and part in words for part in character.split())


def _sections(text: str) -> list[tuple[str, str]]:
    """(heading, text under it) for each heading of a labelled reply."""
    found = list(_SECTION.finditer(text))
    ends = [match.start() for match in found[1:]] + [len(text)]
    return [(m["name"], text[m.end() : end]) for m, end in zip(found, ends, strict=False)]
