"""The attribute kinds that invented personas are made of, read from the YAML files beside this one.

A kind is one fact with slots. Its template blocks hold one template a line:
says       the statement                 asks  queries that make it relevant
near       related queries that do not   yes   replies that say all of it
no         replies that conflict         other replies that do neither
polar      yes/no queries: "? query", then its replies, "+ yes", "- no" and "0 other"
flip.says, flip.yes: the opposite statement; its replies are a `no` here and this `yes` a `no` there
{slot} is the value, {slot1} its first paraphrase (after "|" in the bank), {~slot} a wrong value,
{my:slot}, {the:slot} and {bare:slot} change a leading article. A line that begins with "^" is
understood only after its query, so it is never volunteered.

Another value in a slot contradicts the statement, unless the slot stands under `open`: who has not
spoken to one friend may not speak to another either, so with `open: p` another {p} is neutral.

A kind of fact of your own
--------------------------
Add an entry under `kinds` to the file of its theme (a new file is a new theme): `name`, `topic`
(what an evasion calls it), `slots` (a bank of banks.yaml, "3..12", or values between ";") and the
blocks above, with at least four `asks`, two `near`, one `polar`, three `yes`, three `no` and four
`other`. `groups` names what it shares with kinds that must not meet it in one persona, `vague` what
stands for a value that is left out; `flip` is for facts with an opposite. Each `yes` line says all
that the statement says. For each slot, ask: can the statement and a `yes` line with another value
both be true of one person? If so, list the slot under `open` ("open: p what"), or say in the
statement and in each `yes` and "+" line what rules that out ("only", "once", "and nothing else"). A
`no` line has to be false whenever the statement is true, and {~slot} in an open slot is no
contradiction by itself. Then run `python -m pytest tests/models/labelled/test_personas.py`.
"""

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

Lines = tuple[str, ...]
FIELD = re.compile(r"\{(~?)(?:(my|the|bare):)?([A-Za-z]+)(\d?)\}")
_ARTICLE = re.compile(r"^(an?|the) ")
_UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()


@dataclass(frozen=True)
class Bank:
    """What a slot can hold; `vague` is the phrase that leaves the value open, if there is one."""

    values: Lines
    vague: str | None = None
    ordered: bool = False

    def other(self, value: str, rng: random.Random) -> str:
        """A wrong value: a neighbour in an ordered bank, often the same initial elsewhere."""
        if self.ordered:
            place = self.values.index(value)
            close = self.values[max(0, place - 3) : place + 4]
            return rng.choice([item for item in close if item != value])
        rest = [item for item in self.values if item != value]
        alike = [item for item in rest if item.split()[-1][0] == value.split()[-1][0]]
        return rng.choice(alike if alike and rng.random() < 0.35 else rest)


@dataclass(frozen=True)
class Polar:
    """A yes/no query with the replies that only it makes clear."""

    ask: str
    yes: Lines
    no: Lines
    other: Lines


@dataclass(frozen=True)
class Kind:
    """One kind of fact; kinds that share a group never meet in one persona.

    Only a broad kind is relevant to the broad queries of its theme.
    """

    name: str
    theme: str
    genres: Lines
    broad: bool
    groups: frozenset[str]
    topic: str
    slots: Mapping[str, Bank]
    open: frozenset[str]
    says: Lines
    asks: Lines
    near: Lines
    polar: tuple[Polar, ...]
    yes: Lines
    no: Lines
    other: Lines
    flip: tuple[Lines, Lines] | None

    def flipped(self) -> "Kind":
        """The kind of the opposite statement, or itself where none is written."""
        if self.flip is None:
            return self
        says, yes = self.flip
        polar = tuple(replace(item, yes=item.no, no=item.yes) for item in self.polar)
        return replace(self, says=says, yes=yes, no=self.yes, polar=polar, flip=None)

    def key_slots(self) -> list[str]:
        """The slots that every form of the statement names: without one it is not all said."""
        named = [mentioned(line) for line in self.says]
        return [slot for slot in self.slots if all(slot in slots for slots in named)]

    def exclusive_slots(self) -> list[str]:
        """The key slots that hold one value alone: another one contradicts the statement."""
        return [slot for slot in self.key_slots() if slot not in self.open]


def mentioned(template: str) -> set[str]:
    """The slots whose right value the template gives."""
    return {field[2] for field in FIELD.findall(template) if not field[0]}


def fill(template: str, values: Mapping[str, str]) -> str:
    """The template with its fields filled in and its sentences capitalised."""

    def value(field: re.Match[str]) -> str:
        wrong, article, slot, facet = field.groups()
        forms = values[wrong + slot].split("|")
        text = forms[int(facet or 0)]
        if article:
            text = _ARTICLE.sub("", text)
            text = text if article == "bare" else f"{article} {text}"
        return text

    return capitalised(FIELD.sub(value, template))


def capitalised(text: str) -> str:
    """The text with a capital letter at the start of each sentence."""
    return re.sub(r"(^[\"*]*|[.!?] )([a-z])", lambda m: m[1] + m[2].upper(), text)


@cache
def load_kinds() -> dict[str, Kind]:
    """Every kind by name, in a fixed order."""
    banks = {name: _bank(entry, {}) for name, entry in _read("banks.yaml").items()}
    kinds: dict[str, Kind] = {}
    for name in sorted(item.name for item in files(__package__).iterdir()):
        if name.endswith(".yaml") and name not in ("banks.yaml", "frames.yaml"):
            theme = _read(name)
            for entry in theme["kinds"]:
                kind = _kind(entry, name.removesuffix(".yaml"), theme.get("genres", ""), banks)
                assert kind.name not in kinds, f"two kinds are called {kind.name}"
                kinds[kind.name] = kind
    return kinds


@cache
def load_frames() -> dict[str, Any]:
    """Voices, small talk and wrappers (frames.yaml), with text blocks split into lines."""
    return {key: _split(value) for key, value in _read("frames.yaml").items()}


@cache
def theme_asks() -> dict[str, Lines]:
    """Queries that make every statement of a theme relevant, for the themes that have some."""
    themes = sorted({kind.theme for kind in load_kinds().values()})
    asks = {theme: _lines(_read(f"{theme}.yaml").get("asks", "")) for theme in themes}
    return {theme: lines for theme, lines in asks.items() if lines}


def _read(name: str) -> Any:
    text = files(__package__).joinpath(name).read_text(encoding="utf-8")
    # Every scalar stays text: to the usual loaders the keys "yes" and "no" are booleans.
    return yaml.load(text, Loader=getattr(yaml, "CBaseLoader", yaml.BaseLoader))


def _split(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _split(item) for key, item in value.items()}
    return _lines(value) if isinstance(value, str) else value


def _lines(block: str) -> Lines:
    return tuple(line.strip() for line in block.splitlines() if line.strip())


def _kind(entry: dict[str, Any], theme: str, genres: str, banks: dict[str, Bank]) -> Kind:
    vague = entry.get("vague", {})
    slots = {
        slot: replace(_bank(bank, banks), **({"vague": vague[slot]} if slot in vague else {}))
        for slot, bank in entry.get("slots", {}).items()
    }
    flip = entry.get("flip")
    blocks = {key: _lines(entry.get(key, "")) for key in "says asks near yes no other".split()}
    return Kind(
        name=entry["name"],
        theme=theme,
        genres=tuple(genres.split()),
        broad="broad" not in entry,
        groups=frozenset(entry.get("groups", "").split()) | {entry["name"]},
        topic=entry["topic"],
        slots=slots,
        open=frozenset(entry.get("open", "").split()),
        polar=_polar(_lines(entry.get("polar", ""))),
        flip=(_lines(flip["says"]), _lines(flip["yes"])) if flip else None,
        **blocks,
    )


def _polar(lines: Lines) -> tuple[Polar, ...]:
    found: list[tuple[str, dict[str, list[str]]]] = []
    for line in lines:
        mark, text = line[0], line[1:].strip()
        if mark == "?":
            found.append((text, {"+": [], "-": [], "0": []}))
        else:
            found[-1][1][mark].append(text)
    return tuple(Polar(ask, *map(tuple, replies.values())) for ask, replies in found)


def _bank(entry: Any, banks: dict[str, Bank]) -> Bank:
    """A bank from its name, "3..12", [a, b], "a; b", or {vague: ..., values: "a; b"}."""
    if isinstance(entry, list):
        return Bank(tuple(entry))
    if isinstance(entry, dict):
        return Bank(_values(entry["values"]), entry.get("vague"), "ordered" in entry)
    if ";" in entry:
        return Bank(_values(entry))
    if entry in banks:
        return banks[entry]
    low, high = map(int, entry.split(".."))
    step = max(1, (high - low) // 60)
    return Bank(tuple(_number(n) for n in range(low, high + 1, step)), ordered=True)


def _values(text: str) -> Lines:
    return tuple(re.split(r"\s*[;\n]\s*", text.strip()))


def _number(number: int) -> str:
    if number < 20:
        return _UNITS[number]
    if number < 100:
        tens, unit = divmod(number, 10)
        return _TENS[tens - 2] + (f"-{_UNITS[unit]}" if unit else "")
    return str(number)
