"""A paragraph cut into lines and sentences, before anything is understood of them."""

import re

from apc_cli.models.rules.banks import words

_BULLET = re.compile(r"^\s*(?:[-*•–]|\d{1,2}[.)])\s+")
_HEADING = re.compile(r"^\s*#{1,6}\s|^\s*=+.*=+\s*$")
_MARKUP = re.compile(r"\[\d+\]|\*\*|__|`")
_KEY_VALUE = re.compile(r"^([A-Z][\w /'-]{1,30}):\s+(\S.*)$")
_END = re.compile(r"([.!?…]+[\"”’')\]]*)\s+(?=[\"“‘'(\[]?[^\W_])|([。！？]+[」』”]?)")
_LAST_WORD = re.compile(r"([\w.]+)\.$")
_LATIN = re.compile(r"[A-Za-z]+")
_OTHER_SCRIPT = re.compile(r"[^\W\d_A-Za-zÀ-ɏ]")


def lines_of(paragraph: str) -> list[str]:
    """The list items, or the running text with its line breaks mended; headings are left out."""
    rows = [row for row in paragraph.splitlines() if row.strip() and not _HEADING.match(row)]
    items: list[str] = []
    listed = any(_BULLET.match(row) for row in rows)
    for row in rows:
        bullet = bool(_BULLET.match(row))
        text = _clean(_BULLET.sub("", row))
        starts = bullet or key_value(text) is not None or not items
        if starts or (listed and not row[:1].isspace() and row[:1].isupper()):
            items.append(text)
        else:
            items[-1] += " " + text
    return [item for item in items if item]


def key_value(line: str) -> tuple[str, str] | None:
    """From "Age: 26", makes ("Age", "26"); prose with a colon gives nothing."""
    match = _KEY_VALUE.match(line)
    if match is None or len(match[1].split()) > 3:
        return None
    return match[1].strip(), match[2].strip()


def sentences_of(line: str) -> list[str]:
    """The sentences; abbreviations, initials, decimals and quotations do not end one."""
    cuts, start = [], 0
    for match in _END.finditer(line):
        if match[1] and not _is_end(line, start, match):
            continue
        cuts.append(line[start : match.end()].strip())
        start = match.end()
    cuts.append(line[start:].strip())
    return [cut for cut in cuts if cut]


def is_english(text: str) -> bool:
    """Does the text read as English, so far as its script and small words tell?"""
    latin = _LATIN.findall(text.lower())
    others = len(_OTHER_SCRIPT.findall(text))
    if others > sum(map(len, latin)):
        return False
    marks = sum(token in words("english_marks") for token in latin)
    return len(latin) < 12 or marks * 12 >= len(latin)


def _is_end(line: str, start: int, match: re.Match[str]) -> bool:
    before = line[start : match.start()]
    if before.count("“") > before.count("”") + match[1].count("”"):
        return False
    if not match[1].startswith(".") or match[1].startswith(".."):
        return not line[match.end() :][:1].islower()
    if line[match.end() :][:1].islower():
        return False
    last = _LAST_WORD.search(before + ".")
    if last is None:
        return True
    spoken = last[1].lower()
    initial = len(last[1]) == 1 and last[1].isupper() and last[1] != "I"
    return not (initial or spoken in words("abbreviations"))


def _clean(text: str) -> str:
    return re.sub(r"\s+", " ", _MARKUP.sub("", text)).strip()
