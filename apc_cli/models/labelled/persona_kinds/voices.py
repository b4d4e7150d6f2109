"""How things are said, whatever they are: voices, asides, stage directions, casual queries."""

import random
import re
from dataclasses import dataclass

from apc_cli.models.labelled.persona_kinds import load_frames

_NAME = re.compile(r"[A-Z][a-z]+")


@dataclass(frozen=True)
class Frame:
    """What stands before and after the content of a reply."""

    before: str = ""
    after: str = ""


class Voice:
    """One character's way of speaking; it sees texts, never labels."""

    def __init__(self, rng: random.Random, name: str) -> None:
        self.rng = rng
        self.frames = load_frames()
        self.name = name
        self.ways = self.frames["voices"].get(name, {})

    def frame(self) -> Frame:
        """An opener, a stage direction or an aside before or after the content, or nothing."""
        before, after = [], []
        if self.rng.random() < 0.18:
            before.append(self.rng.choice(self.frames["stage"]))
        if self.rng.random() < 0.4:
            before.append(self.rng.choice(self._lines("openers")))
        first, second = self.rng.sample(self.frames["fluff"], 2)
        if len(before) < 2 and self.rng.random() < 0.1:
            before.append(first)
        if self.rng.random() < 0.25:
            after.append(second)
        if self.rng.random() < 0.25:
            after.append(self.rng.choice(self._lines("closers")))
        return Frame(" ".join(before), " ".join(after))

    def dress(self, text: str, frame: Frame) -> str:
        """The text in its frame, spoken in this voice."""
        if frame.before.endswith(","):
            text = lowered(text)
        whole = " ".join(part for part in (frame.before, text, frame.after) if part)
        for change in self.ways.get("changes", ()):
            old, new = change.split(" => ")
            whole = re.sub(rf"\b{old}\b", new, whole)
        return whole.lower() if "lower" in self.ways and self.rng.random() < 0.7 else whole

    def join(self, text: str) -> str:
        """The text as an addition to what was said before."""
        if self.rng.random() < 0.3:
            return text
        link = self.rng.choice(self.frames["links"])
        if link.endswith((",", "and", "but")):
            text = lowered(text)
        return f"{link} {text}"

    def casual(self, query: str, first: str) -> str:
        """The query as typed: sometimes a greeting, lower case, "u" for "you", a slip."""
        if self.rng.random() < 0.15:
            greeting = self.rng.choice(self.frames["greetings"])
            query = f"{greeting.format(first=first)} {lowered(query)}"
        if self.rng.random() < 0.2:
            query = query.lower()
            for old, new in (("you", "u"), ("are", "r"), ("your", "ur"), ("what's", "whats")):
                if self.rng.random() < 0.4:
                    query = re.sub(rf"\b{old}\b", new, query)
            query = query.rstrip("?.") if self.rng.random() < 0.6 else query
        return self._slip(query) if self.rng.random() < 0.07 else query

    def _slip(self, query: str) -> str:
        place = self.rng.randrange(max(1, len(query) - 2))
        pair = query[place : place + 2]
        swapped = pair[::-1] if pair.isalpha() and pair.islower() else pair
        return query[:place] + swapped + query[place + 2 :]

    def _lines(self, key: str) -> tuple[str, ...]:
        return tuple(self.frames[key]) + tuple(self.ways.get(key, ())) * 3


def lowered(text: str) -> str:
    """The text with a small first letter where its first word is plainly not a name."""
    first = text.split(" ", 1)[0].strip(",.?!")
    plain = first in load_frames()["plain_words"]
    return text[0].lower() + text[1:] if plain else text
