"""Sentences of English, Japanese and Chinese, and parts of a text that end where sentences do."""

import re
from collections.abc import Callable

from sentencex import segment

# 「…？」と言った is one sentence: what follows the quotation says that it was one.
_GOES_ON = re.compile(r"^(?:と|って|なんて|などと|という|とか)")
_QUOTED = re.compile(r"[」』]\s*$")


def sentences(text: str, language: str) -> list[str]:
    """The sentences, without the space around them."""
    found: list[str] = []
    for part in segment(language, text):
        if found and _QUOTED.search(found[-1]) and _GOES_ON.match(part):
            found[-1] += part
        else:
            found.append(part)
    return [sentence for part in found if (sentence := part.strip())]


def parts(text: str, language: str, most: int, size: Callable[[str], int]) -> list[str]:
    """The text in parts of at most `most` by `size`, cut between sentences.

    A sentence that is too long by itself is cut in the middle.
    """
    if size(text) <= most:
        return [text]
    space = " " if language == "en" else ""
    found: list[str] = []
    for sentence in sentences(text, language):
        for piece in _pieces(sentence, most, size):
            joined = f"{found[-1]}{space}{piece}" if found else piece
            if found and size(joined) <= most:
                found[-1] = joined
            else:
                found.append(piece)
    return found


def _pieces(sentence: str, most: int, size: Callable[[str], int]) -> list[str]:
    if size(sentence) <= most:
        return [sentence]
    count = -(-size(sentence) // most)
    length = -(-len(sentence) // count)
    return [sentence[i : i + length] for i in range(0, len(sentence), length)]
