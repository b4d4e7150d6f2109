"""Where a text mentions the character, by full name or by a safe part of it."""

import re
from functools import cache

from apc_cli.models.rules.banks import words
from apc_cli.models.rules.tokens import Token, tokenise
from apc_cli.models.rules.verbs import is_known

_NEXT_NAME = re.compile(r" ([A-Z][\w’'-]*[^\W\d_])(?=('s|’s)? |[,.(]|$)")
_LAST_WORD = re.compile(r"([\w’'-]+)\.? $")
_LEFT_NAME = re.compile(r"(?:^|(?<=[.!?] ))((?:[A-Z][\w’'-]+ |(?:van|von|de|da|del|di|la) )+)$")


class Names:
    """Finds one character's mentions."""

    def __init__(self, character: str) -> None:
        self.character = character.strip()
        parts = self.character.split()
        core = [part for part in parts if part.lower().strip(".") not in words("titles")]
        self._single = len(parts) == 1
        self._parts = frozenset(core)
        aliases = {self.character, " ".join(core)}
        aliases |= {part for part in (core[0], core[-1]) if _is_distinct(part)} if core else set()
        if self.character.lower().startswith("the "):
            aliases.add(self.character[0].lower() + self.character[1:])
            aliases -= set(core)
        ordered = sorted((alias for alias in aliases if alias), key=len, reverse=True)
        self._pattern = re.compile(
            r"(?<![\w-])(?:" + "|".join(re.escape(alias) for alias in ordered) + r")(?![\w-])"
        )

    def spans(self, text: str) -> list[tuple[int, int]]:
        """The mentions in order; a longer name that holds the character's counts as one."""
        found: list[tuple[int, int]] = []
        for match in self._pattern.finditer(text):
            span = self._accept(text, match.start(), match.end())
            if span and (not found or span[0] >= found[-1][1]):
                found.append(span)
        return found

    def tokenise(self, text: str) -> list[Token]:
        return tokenise(text, self.spans(text))

    def mentioned(self, text: str) -> bool:
        return bool(self.spans(text))

    def surface(self, mention: str) -> str:
        """How a statement should spell this mention: always with the character's name in it."""
        return mention if self.character in mention else self.character

    def _accept(self, text: str, start: int, end: int) -> tuple[int, int] | None:
        whole = text[start:end] == self.character and not self._single
        if whole:
            return start, end
        before = self._left(text, start)
        after = self._right(text, end)
        if before is None or after is None:
            return None
        return before, after

    def _left(self, text: str, start: int) -> int | None:
        """Where the mention starts, or None when it is the end of someone else's name."""
        opening = _LEFT_NAME.search(text[:start])
        if opening and not any(is_known(part.lower()) for part in _names_in(opening[1])):
            return opening.start(1)
        previous = _LAST_WORD.search(text[:start])
        if previous is None:
            return start
        previous_word = previous[1]
        if previous_word.lower() in words("titles"):
            return previous.start(1)
        opens = previous.start(1) == 0 or text[: previous.start(1)].rstrip()[-1:] in '.!?:;“"'
        known = opens and is_known(previous_word.lower())
        stranger = previous_word[0].isupper() and not known
        return None if stranger or previous_word in words("name_particles") else start

    def _right(self, text: str, end: int) -> int | None:
        """Where the mention ends, or None when another surname follows."""
        following = _NEXT_NAME.match(text, end)
        if following is None or following[1].lower() in words("not_surnames"):
            return end
        if following[1] in self._parts:
            return following.end(1)
        naming = _LAST_WORD.search(text[:end].rsplit(" ", 1)[0] + " ")
        if naming and naming[1].lower() in words("naming_verbs"):
            return end
        return following.end(1) if self._single else None


@cache
def names_of(character: str) -> Names:
    """The finder for a character, made once."""
    return Names(character)


def _names_in(text: str) -> list[str]:
    return [part for part in text.split() if part[0].isupper()]


def _is_distinct(part: str) -> bool:
    """May this part of a name stand for the whole? Initials and common words may not."""
    return len(part) > 2 and not (part.islower() or part.lower() in words("function_words"))
