"""Invented personas with labelled replies, composed by rule: training data without an LLM.

Every label holds by construction: an entailed reply is a phrasing that names all of the fact, a
contradicted one changes a detail that holds one value alone or is written against it, a neutral one
leaves a detail out or tells another fact that may hold besides. Openers, closers, asides and voices
are drawn without a look at the label.
"""

import random
from collections.abc import Iterator, Sequence

from apc_cli.errors import ConfigError
from apc_cli.models.labelled.corpus import Exchange, LabelledReply, Persona
from apc_cli.models.labelled.persona_kinds import (
    Kind,
    load_frames,
    load_kinds,
    mentioned,
    theme_asks,
)
from apc_cli.models.labelled.persona_kinds.facts import LABELS, Asked, Fact, Phrases
from apc_cli.models.labelled.persona_kinds.voices import Frame, Voice, lowered

_LABEL_SHARES = (0.35, 0.35, 0.3)
_VOLUNTEERS = 0.35


def kind_names() -> list[str]:
    """The names of all kinds of statement."""
    return list(load_kinds())


def halves() -> tuple[list[str], list[str]]:
    """Two disjoint lists of kinds, alike in themes: what the reward and the evaluator judge see."""
    themes: dict[str, list[str]] = {}
    for kind in load_kinds().values():
        themes.setdefault(kind.theme, []).append(kind.name)
    ordered = []
    for theme in sorted(themes):
        ordered += random.Random(theme).sample(sorted(themes[theme]), len(themes[theme]))
    return ordered[::2], ordered[1::2]


def generate(
    seed: int, kinds: Sequence[str] | None = None, personas: int = 100
) -> Iterator[Persona]:
    """`personas` personas made of the named kinds (of all kinds without names)."""
    library = load_kinds()
    if unknown := set(kinds or ()) - set(library):
        raise ConfigError(f"Unknown kinds of statement: {', '.join(sorted(unknown))}.")
    chosen = [library[name] for name in (kinds or library)]
    for number in range(personas):
        yield _Writer(random.Random(f"{seed}:{number}"), chosen).persona()


class _Writer:
    """Writes one persona; owns its random numbers, its name, its voice and its facts."""

    def __init__(self, rng: random.Random, kinds: Sequence[Kind]) -> None:
        self.rng = rng
        self.frames = load_frames()
        self.genre = rng.choice(self.frames["genres"])
        self.voice = Voice(rng, rng.choice(["plain", "plain", *self.frames["voices"]]))
        self.phrases = Phrases(rng)
        self.names = self._names()
        self.facts = self._facts(kinds)

    def persona(self) -> Persona:
        exchanges = [self._about(number) for number in range(len(self.facts))]
        exchanges += [self._beside(), self._beside(), *self._double(), *self._themed()]
        self.rng.shuffle(exchanges)
        statements = tuple(fact.say(self.rng.choice(fact.kind.says)) for fact in self.facts)
        return Persona(self.names["N"], self.genre, statements, tuple(exchanges))

    def _names(self) -> dict[str, str]:
        pronouns = self.rng.choice((("women", "she her her"), ("men", "he his him")))
        he, his, him = pronouns[1].split()
        first = self.rng.choice(self.frames["names"][pronouns[0]])
        form = self.rng.choice(self.frames["names"]["forms"])
        parts = {key: self.rng.choice(self.frames["names"][key]) for key in ("last", "epithet")}
        name = form.format(first=first, **parts)
        return {"N": name, "F": first, "he": he, "his": his, "him": him}

    def _facts(self, kinds: Sequence[Kind]) -> list[Fact]:
        fitting = [kind for kind in kinds if not kind.genres or self.genre in kind.genres]
        pool = fitting if len(fitting) >= 10 else list(kinds)
        facts: list[Fact] = []
        taken: set[str] = set()
        used = set(self.names.values())
        size = self.rng.randint(6, 10)
        for kind in self.rng.sample(pool, len(pool)):
            if len(facts) < size and not taken & kind.groups:
                taken |= kind.groups
                facts.append(self._fact(kind, used))
        return facts

    def _fact(self, kind: Kind, used: set[str]) -> Fact:
        form = kind.flipped() if self.rng.random() < 0.5 else kind
        values = dict(self.names)
        for slot, bank in kind.slots.items():
            free = [value for value in bank.values if value not in used]
            values[slot] = self.rng.choice(free or bank.values)
            if not bank.ordered:
                used.add(values[slot])
        return Fact(form, values).redrawn(self.rng)

    # Exchanges

    def _about(self, number: int) -> Exchange:
        asked = self._ask(self.facts[number].redrawn(self.rng))
        replies = self._minimal_set(asked, number) if self.rng.random() < 0.6 else []
        replies += [self._free(asked, number) for _ in range(self.rng.randint(2, 3))]
        return Exchange(self._typed(asked.query), (number,), _distinct(replies))

    def _ask(self, fact: Fact) -> Asked:
        if fact.kind.polar and self.rng.random() < 0.4:
            polar = self.rng.choice(fact.kind.polar)
            return Asked(fact, fact.say(polar.ask), polar)
        return Asked(fact, fact.say(self.rng.choice(fact.kind.asks)))

    def _beside(self) -> Exchange:
        """A query that no statement answers; its replies volunteer facts or say nothing."""
        near = self.facts[self.rng.randrange(len(self.facts))]
        small_talk = self.rng.random() < 0.4
        lines = self.frames["small_talk"] if small_talk else near.kind.near
        replies = [self._volunteered("", self.rng.randrange(len(self.facts)), ()) for _ in range(3)]
        replies.append(self._reply(self.phrases.pick("small_talk_replies"), {}))
        return Exchange(self._typed(near.say(self.rng.choice(lines))), (), _distinct(replies))

    def _double(self) -> list[Exchange]:
        """Two questions at once."""
        if len(self.facts) < 2:
            return []
        first, second = self.rng.sample(range(len(self.facts)), 2)
        asked = [
            Asked(fact, fact.say(self.rng.choice(fact.kind.asks)))
            for fact in (self.facts[first].redrawn(self.rng), self.facts[second].redrawn(self.rng))
        ]
        query = f"{asked[0].query} {self.phrases.pick('and_asks')} {lowered(asked[1].query)}"
        replies = [self._both(asked, (first, second)) for _ in range(3)]
        return [Exchange(query, (first, second), _distinct(replies))]

    def _both(self, asked: Sequence[Asked], numbers: tuple[int, int]) -> LabelledReply:
        labels = [self._label() for _ in asked]
        texts = [
            self.phrases.text(item, label, loose=False)
            for item, label in zip(asked, labels, strict=True)
        ]
        order = self.rng.sample((0, 1), 2)
        text = f"{texts[order[0]]} {self.voice.join(texts[order[1]])}"
        return self._reply(text, dict(zip(numbers, labels, strict=True)))

    def _themed(self) -> list[Exchange]:
        """A broad query ("Tell me about your family.") for a theme with several statements."""
        themes = [fact.kind.theme if fact.kind.broad else "" for fact in self.facts]
        broad = [theme for theme in sorted(set(themes) & set(theme_asks())) if theme]
        if not broad:
            return []
        theme = self.rng.choice(broad)
        numbers = tuple(n for n, name in enumerate(themes) if name == theme)
        query = self.rng.choice(theme_asks()[theme])
        replies = [self._volunteered("", n, ()) for n in numbers for _ in range(2)]
        return [Exchange(self._typed(query), numbers, _distinct(replies))]

    # Replies

    def _minimal_set(self, asked: Asked, number: int) -> list[LabelledReply]:
        """The same words three times: right, with one detail changed, with one open or missing."""
        fact = asked.fact
        line = self.rng.choice(fact.kind.yes)
        slots = [slot for slot in fact.kind.exclusive_slots() if slot in mentioned(line)]
        wrap = self.phrases.pick("keeps") if self.rng.random() < 0.35 else "{}"
        texts = [(wrap.format(fact.say(line)), "entailed")]
        if slots:
            wrong = fact.changed(self.rng.choice(slots)).say(line)
            texts.append((wrap.format(wrong), "contradicted"))
        if neutral := self.phrases.besides(asked, line) or self.phrases.vague(asked, line):
            texts.append((wrap.format(neutral), "neutral"))
        elif not line.startswith("^") and self.rng.random() < 0.4:
            texts.append((self.phrases.pick("quotes").format(fact.say(line)), "neutral"))
        frame = self.voice.frame()
        return [self._reply(text, {number: label}, frame) for text, label in texts]

    def _free(self, asked: Asked, number: int) -> LabelledReply:
        label = self._label()
        text = self.phrases.text(asked, label, loose=True)
        others = [n for n in range(len(self.facts)) if n != number]
        if self.rng.random() < _VOLUNTEERS and others:
            return self._volunteered(text, self.rng.choice(others), ((number, label),))
        return self._reply(text, {number: label})

    def _volunteered(
        self, text: str, number: int, labels: tuple[tuple[int, str], ...]
    ) -> LabelledReply:
        label = self.rng.choice(LABELS[:2])
        asked = Asked(self.facts[number].redrawn(self.rng), "")
        extra = self.phrases.text(asked, label, loose=False)
        text = f"{text} {self.voice.join(extra)}" if text else extra
        return self._reply(text, dict([*labels, (number, label)]))

    def _label(self) -> str:
        return self.rng.choices(LABELS, _LABEL_SHARES)[0]

    def _typed(self, query: str) -> str:
        return self.voice.casual(query, self.names["F"])

    def _reply(
        self, text: str, labels: dict[int, str], frame: Frame | None = None
    ) -> LabelledReply:
        spoken = self.voice.dress(text, frame or self.voice.frame())
        numbers = {
            label: tuple(sorted(n for n, given in labels.items() if given == label))
            for label in LABELS
        }
        return LabelledReply(spoken, numbers["entailed"], numbers["contradicted"])


def _distinct(replies: Sequence[LabelledReply]) -> tuple[LabelledReply, ...]:
    return tuple({reply.text: reply for reply in replies}.values())
