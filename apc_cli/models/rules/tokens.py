"""Text as tokens that remember their spacing, whether they name the character, and quotation."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

_WORD = re.compile(r"(?:[A-Za-z]\.){2,}|\d+(?:[.,]\d+)*\w*(?:-\w+)*|\w+(?:[-'’]\w+)*|[^\w\s]")
_CLITIC = re.compile(r"^(.+)(['’](?:s|d|ll|re|ve|m))$", re.IGNORECASE)
_OPENING, _CLOSING = "“«", "”»"
SENTENCE_END = ".!?…"


@dataclass(frozen=True, slots=True)
class Token:
    """One word or mark; `name` says that it names the character, whatever it is spelt like."""

    text: str
    space: bool = True
    name: bool = False
    quoted: bool = False

    @property
    def low(self) -> str:
        return "" if self.name else self.text.lower().replace("’", "'")

    @property
    def is_word(self) -> bool:
        return self.name or self.text[0].isalnum()

    @property
    def is_clitic(self) -> bool:
        return self.low == "'s"


def word(text: str, *, space: bool = True) -> Token:
    return Token(text, space)


def tokenise(text: str, spans: Iterable[tuple[int, int]] = ()) -> list[Token]:
    """Tokens of `text`; each of `spans` becomes one token that names the character."""
    tokens: list[Token] = []
    position = 0
    for start, end in spans:
        tokens += _plain(text, position, start)
        tokens.append(Token(text[start:end], _space_at(text, start), name=True))
        position = end
    tokens += _plain(text, position, len(text))
    return _mark_quotes(tokens)


def render(tokens: Sequence[Token]) -> str:
    """The text of the tokens, with single spaces."""
    parts: list[str] = []
    for index, token in enumerate(tokens):
        if index and token.space:
            parts.append(" ")
        parts.append(token.text)
    return "".join(parts)


def sentence(tokens: Sequence[Token]) -> str:
    """The tokens as a sentence: a capital first, and a mark at the end."""
    text = render(tokens).strip(" ,;:—–-")
    if not text:
        return ""
    if not tokens[0].name:
        text = text[0].upper() + text[1:]
    return text if text[-1] in SENTENCE_END + "\"”'。！？" else text + "."


def strip_end(tokens: Sequence[Token]) -> list[Token]:
    """The tokens without sentence marks, commas and dashes at either end."""
    kept = list(tokens)
    while kept and kept[-1].text in {*SENTENCE_END, ",", ";", ":", "—", "–", "-"}:
        kept.pop()
    while kept and kept[0].text in {",", ";", ":", "—", "–", "-"}:
        kept.pop(0)
    return kept


def _plain(text: str, start: int, end: int) -> list[Token]:
    tokens = []
    for match in _WORD.finditer(text, start, end):
        space = _space_at(text, match.start())
        clitic = _CLITIC.match(match.group())
        if clitic:
            tokens += [Token(clitic[1], space), Token(clitic[2], space=False)]
        else:
            tokens.append(Token(match.group(), space))
    return _join_possessives(tokens)


def _join_possessives(tokens: list[Token]) -> list[Token]:
    """Joins the apostrophe and the s that follow a name's span."""
    joined: list[Token] = []
    for token in tokens:
        after_mark = bool(joined) and joined[-1].text in "'’" and not token.space
        if after_mark and token.low == "s":
            joined[-1] = replace(joined[-1], text=joined[-1].text + token.text)
        else:
            joined.append(token)
    return joined


def _space_at(text: str, index: int) -> bool:
    return index > 0 and text[index - 1].isspace()


def _mark_quotes(tokens: list[Token]) -> list[Token]:
    marked, inside = [], False
    for token in tokens:
        if token.text in _OPENING:
            inside = True
        elif token.text in _CLOSING:
            inside = False
        elif token.text == '"':
            inside = not inside
        marked.append(replace(token, quoted=inside))
    return marked
