"""What a character says about one fact: right, wrong, or neither."""

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass

from apc_cli.models.labelled.persona_kinds import (
    FIELD,
    Kind,
    Lines,
    Polar,
    capitalised,
    fill,
    load_frames,
    mentioned,
)

# Where a vague phrase does not fit its sentence: "on a a certain weekday", "my some trade".
_STUMBLE = re.compile(r"\b(an?|the|my|every|each|of|\w+est) (an?|the|one|some|of|many)\b", re.I)
LABELS = ("entailed", "contradicted", "neutral")


@dataclass(frozen=True)
class Fact:
    """A kind with its values: the right ones under the slot's name, wrong ones under "~slot"."""

    kind: Kind
    values: Mapping[str, str]

    def redrawn(self, rng: random.Random) -> "Fact":
        wrong = {
            f"~{slot}": bank.other(self.values[slot], rng) for slot, bank in self.kind.slots.items()
        }
        return Fact(self.kind, {**self.values, **wrong})

    def changed(self, slot: str) -> "Fact":
        right, wrong = self.values[slot], self.values[f"~{slot}"]
        return Fact(self.kind, {**self.values, slot: wrong, f"~{slot}": right})

    def vague(self, slot: str) -> "Fact":
        return Fact(self.kind, {**self.values, slot: self.kind.slots[slot].vague or ""})

    def say(self, template: str) -> str:
        return fill(template.removeprefix("^").strip(), self.values)


@dataclass(frozen=True)
class Asked:
    """The fact under discussion and its query; `polar` where the query is a yes/no one."""

    fact: Fact
    query: str
    polar: Polar | None = None

    def unnamed(self) -> list[str]:
        """The key slots whose value the query does not name: what the reply alone must tell."""
        values = self.fact.values
        return [s for s in self.fact.kind.key_slots() if not names(self.query, values[s])]


class Phrases:
    """Draws phrasings of facts for a label; owns nothing but its random numbers."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.frames = load_frames()

    def pick(self, frame: str) -> str:
        return self.rng.choice(self.frames[frame])

    def text(self, asked: Asked, label: str, *, loose: bool) -> str:
        """What the character says for the label; a loose text may lean on its query."""
        polar = asked.polar if loose else None
        if label == "entailed":
            return self._entailed(asked.fact, polar, loose)
        if label == "contradicted":
            return self._contradicted(asked.fact, polar, loose)
        return self._neutral(asked, polar)

    def _entailed(self, fact: Fact, polar: Polar | None, loose: bool) -> str:
        if polar and polar.yes and self.rng.random() < 0.6:
            return fact.say(self.rng.choice(polar.yes))
        chance = self.rng.random()
        if chance < 0.05:
            return fact.say(self.rng.choice(fact.kind.says))
        return self._told(fact, _usable(fact.kind.yes, loose))

    def _contradicted(self, fact: Fact, polar: Polar | None, loose: bool) -> str:
        if polar and self.rng.random() < 0.6:
            return fact.say(self.rng.choice(polar.no))
        slots = fact.kind.exclusive_slots()
        chance = self.rng.random()
        if chance < 0.08:
            line = self.rng.choice(_usable(fact.kind.yes, loose=False))
            return self.pick("denials").format(fact.say(line))
        if slots and chance < 0.55:
            return self._entailed(fact.changed(self.rng.choice(slots)), None, loose)
        flip = fact.kind.flip[1] if fact.kind.flip else ()
        return self._told(fact, _usable(fact.kind.no + flip, loose))

    def _told(self, fact: Fact, lines: Lines) -> str:
        """One of the lines, now and then in quotes, so that quotes alone mean nothing."""
        text = fact.say(self.rng.choice(lines))
        return self.pick("keeps").format(text) if self.rng.random() < 0.25 else text

    def _neutral(self, asked: Asked, polar: Polar | None) -> str:
        fact = asked.fact
        if polar and polar.other and self.rng.random() < 0.5:
            return fact.say(self.rng.choice(polar.other))
        line = self.rng.choice(_usable(fact.kind.yes, loose=False))
        if self.rng.random() < 0.3 and (text := self.besides(asked, line)):
            return text
        chance = self.rng.random()
        if chance < 0.25 and (blank := self.vague(asked, line)):
            return blank
        if chance < 0.5 or chance > 0.97:
            return fact.say(self.rng.choice(fact.kind.other))
        if chance < 0.77:
            return capitalised(self.pick("evasions").format(topic=fact.kind.topic))
        if chance < 0.84:
            return self.pick("quotes").format(fact.say(line))
        slots = fact.kind.key_slots()
        if chance < 0.9 and slots:
            wrong = fact.changed(self.rng.choice(slots))
            return self.pick("denials").format(wrong.say(line))
        return self.pick("refusals").format(topic=fact.kind.topic)

    def besides(self, asked: Asked, line: str) -> str | None:
        """The line with another value in an open slot: it may hold besides the statement."""
        slots = [
            slot
            for slot in asked.unnamed()
            if slot in asked.fact.kind.open & mentioned(line)
            and not names(asked.query, asked.fact.values[f"~{slot}"])
        ]
        return asked.fact.changed(self.rng.choice(slots)).say(line) if slots else None

    def vague(self, asked: Asked, line: str) -> str | None:
        """The line with one key detail left open, where that makes a sentence."""
        fact = asked.fact
        fields = FIELD.findall(line)
        slots = [
            slot
            for slot in asked.unnamed()
            if fact.kind.slots[slot].vague
            and [field for field in fields if field[2] == slot] == [("", "", slot, "")]
        ]
        text = fact.vague(self.rng.choice(slots)).say(line) if slots else None
        return None if text is None or _STUMBLE.search(text) else text


def names(query: str, value: str) -> bool:
    """Whether the query holds the value in one of its forms, whatever article it has there."""
    forms = (fill("{bare:x}", {"x": form}) for form in value.split("|"))
    return any(re.search(rf"\b{re.escape(form)}\b", query, re.I) for form in forms)


def _usable(lines: Lines, loose: bool) -> Lines:
    """Lines that stand by themselves, or all of them where the query is there to lean on."""
    return lines if loose else tuple(line for line in lines if not line.startswith("^"))
