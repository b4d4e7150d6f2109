import math
import random
import re
from collections import Counter

import pytest

from apc_cli.errors import ConfigError
from apc_cli.models.labelled.corpus import Persona
from apc_cli.models.labelled.persona_kinds import FIELD, Bank, fill, load_kinds, mentioned
from apc_cli.models.labelled.persona_kinds.facts import Asked, Fact, Phrases
from apc_cli.models.labelled.personas import generate, halves, kind_names

KINDS = load_kinds()
NEGATION = re.compile(r"\b(no|not|never|nobody|nothing|none|neither|nor|cannot|\w+n't)\b", re.I)
PERSON = {"N", "F", "he", "his", "him"}


@pytest.fixture(scope="module")
def personas() -> list[Persona]:
    return list(generate(seed=5, personas=150))


def rows(personas: list[Persona]) -> list[tuple[str, str, str]]:
    """(statement, reply, label) of the asked statement, for replies that settle no other."""
    return [
        (persona.statements[asked], reply.text, label)
        for persona in personas
        for exchange in persona.exchanges
        for asked in exchange.relevant[:1]
        for reply in exchange.replies
        if set(reply.entailed + reply.contradicted) <= {asked} and len(exchange.relevant) == 1
        for label in ("e" if reply.entailed else "c" if reply.contradicted else "n",)
    ]


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z']+", text.lower()))


def test_the_same_seed_gives_the_same_personas() -> None:
    assert list(generate(3, personas=4)) == list(generate(3, personas=4))
    assert list(generate(3, personas=4)) != list(generate(4, personas=4))
    assert next(generate(3, personas=9)) == next(generate(3, personas=1))


def test_halves_are_disjoint_and_alike_in_themes() -> None:
    first, second = halves()
    assert set(first) | set(second) == set(kind_names())
    assert not set(first) & set(second)
    for theme in {kind.theme for kind in KINDS.values()}:
        counts = [sum(KINDS[name].theme == theme for name in half) for half in (first, second)]
        assert abs(counts[0] - counts[1]) <= 1


def test_only_the_named_kinds_are_used() -> None:
    persona = next(generate(1, kinds=["swim", "age", "pet"], personas=1))
    assert len(persona.statements) == 3
    with pytest.raises(ConfigError, match="no_such_kind"):
        next(generate(1, kinds=["no_such_kind"]))


def test_there_are_many_kinds() -> None:
    assert len(kind_names()) >= 300
    assert len({kind.theme for kind in KINDS.values()}) >= 12


def test_personas_are_well_formed(personas: list[Persona]) -> None:
    for persona in personas:
        assert 6 <= len(persona.statements) <= 10
        assert all(persona.character in statement for statement in persona.statements)
        for exchange in persona.exchanges:
            assert exchange.replies
            for reply in exchange.replies:
                assert not set(reply.entailed) & set(reply.contradicted)
                leftovers = re.findall(r"[{}|~^]|\ba an?\b|\bmy an?\b|\bthe an?\b", reply.text)
                assert not leftovers, reply.text


def test_labels_are_balanced(personas: list[Persona]) -> None:
    replies = [r for p in personas for e in p.exchanges for r in e.replies]
    entailed = sum(len(reply.entailed) for reply in replies)
    contradicted = sum(len(reply.contradicted) for reply in replies)
    assert 0.85 < entailed / contradicted < 1.18
    counts = Counter(label for *_, label in rows(personas))
    assert min(counts.values()) / sum(counts.values()) > 0.25


def test_words_alone_do_not_give_the_label_away(personas: list[Persona]) -> None:
    labelled = {label: [r for r in rows(personas) if r[2] == label] for label in "ecn"}
    negated = {
        label: sum(bool(NEGATION.search(text)) for _, text, _ in found) / len(found)
        for label, found in labelled.items()
    }
    overlap = {
        label: sum(len(words(s) & words(t)) / len(words(s)) for s, t, _ in found) / len(found)
        for label, found in labelled.items()
    }
    length = {
        label: sum(len(text.split()) for _, text, _ in found) / len(found)
        for label, found in labelled.items()
    }
    assert max(negated.values()) - min(negated.values()) < 0.1, negated
    assert max(overlap.values()) - min(overlap.values()) < 0.15, overlap
    assert max(length.values()) < 1.35 * min(length.values()), length


def test_a_bag_of_words_fails_on_unseen_kinds() -> None:
    """Naive Bayes over the reply's words, trained on one half of the kinds, tried on the other."""
    first, second = halves()
    train = rows(list(generate(1, first, 120)))
    tried = rows(list(generate(2, second, 60)))
    counts = {
        label: Counter(w for _, t, x in train if x == label for w in words(t)) for label in "ec"
    }
    sizes = {label: sum(x == label for *_, x in train) for label in "ec"}

    def score(text: str, label: str) -> float:
        return sum(math.log((counts[label][w] + 1) / (sizes[label] + 2)) for w in words(text))

    tried = [row for row in tried if row[2] in "ec"]
    right = sum(max("ec", key=lambda x: score(t, x)) == label for _, t, label in tried)
    assert right / len(tried) < 0.62


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_entailed_lines_name_every_key_detail(kind) -> None:
    for form in (kind, kind.flipped()):
        keys = set(form.key_slots())
        for line in form.yes:
            assert keys <= mentioned(line), line
        for polar in form.polar:
            assert polar.yes and polar.no
            for line in polar.yes:
                assert keys <= mentioned(line) | mentioned(polar.ask), (polar.ask, line)


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_kinds_are_complete(kind) -> None:
    assert len(kind.says) >= 1 and len(kind.asks) >= 4 and len(kind.near) >= 2
    assert len(kind.yes) >= 3 and len(kind.no) >= 3 and len(kind.other) >= 4 and kind.polar
    flip = sum(kind.flip or (), ())
    polar = sum(((p.ask, *p.yes, *p.no, *p.other) for p in kind.polar), ())
    lines = (*kind.says, *kind.asks, *kind.near, *kind.yes, *kind.no, *kind.other, *flip, *polar)
    for _, _, slot, facet in FIELD.findall("\n".join(lines)):
        assert slot in PERSON or slot in kind.slots, slot
        if facet:
            short = [v for v in kind.slots[slot].values if v.count("|") < int(facet)]
            assert not short, (slot, short)


def test_fill_changes_articles_and_capitals() -> None:
    values = {"x": "a red key|the thing for the door", "N": "Ada"}
    assert fill("{x}? {my:x} is lost. {x1}!", values) == (
        "A red key? My red key is lost. The thing for the door!"
    )


def test_a_wrong_number_is_a_near_one() -> None:
    bank = Bank(("one", "two", "three", "four", "five", "six", "seven", "eight"), ordered=True)
    wrong = {bank.other("one", random.Random(seed)) for seed in range(50)}
    assert wrong == {"two", "three", "four"}


@pytest.mark.parametrize(
    ("name", "statement", "entailed", "contradicted"),
    [
        ("swim", "cannot swim", "you'll be fishing for my hat", "I do a mile in the bay"),
        ("ghosts", "does not believe in ghosts", "When you're dead you're dead", "good night to"),
        ("never_eats_meat", "does not eat meat", "Nothing with a face", "gnaw a mutton bone"),
    ],
)
def test_spot_checks(name: str, statement: str, entailed: str, contradicted: str) -> None:
    seen = set()
    for persona in generate(8, [name], 60):
        if statement not in persona.statements[0]:
            continue
        for reply in (r for e in persona.exchanges for r in e.replies if '"' not in r.text):
            text = reply.text.lower()
            if entailed.lower() in text:
                assert reply.entailed == (0,)
                seen.add("e")
            if contradicted.lower() in text:
                assert reply.contradicted == (0,)
                seen.add("c")
    assert seen == {"e", "c"}


@pytest.mark.parametrize(
    ("name", "slot", "told"),
    [
        ("not_speaking", "p", "The last word I said to {} is"),
        ("sold_out", "p", "{} trusted me and shouldn't have"),
        ("writes_diary", "how", "{}, every evening: dear diary"),
    ],
)
def test_a_fact_that_may_hold_besides_is_no_contradiction(name: str, slot: str, told: str) -> None:
    """Who has not spoken to one person may not have spoken to another one either."""
    values = [value.split("|")[0] for value in KINDS[name].slots[slot].values]
    besides = 0
    for persona in generate(8, [name], 300):
        others = "|".join(value for value in values if value not in persona.statements[0])
        other = re.compile(rf"\b{told.format(f'({others})')}", re.I)
        for reply in (r for e in persona.exchanges for r in e.replies if '"' not in r.text):
            if other.search(reply.text):
                assert not reply.entailed + reply.contradicted, (persona.statements, reply.text)
                besides += 1
    assert besides


def test_an_open_slot_that_the_query_names_stays_as_it_is() -> None:
    kind = KINDS["not_speaking"]
    fact = Fact(kind, {"p": "Kasimir", "n": "nine", "~p": "Old Keahi", "~n": "ten"})
    phrases = Phrases(random.Random(1))
    assert phrases.besides(Asked(fact, "Any enemies?"), kind.yes[1]) == (
        "The last word I said to Old Keahi is nine years old."
    )
    for query in ("When did you last talk to kasimir?", "Is it Old Keahi you mean?"):
        assert phrases.besides(Asked(fact, query), kind.yes[1]) is None


def test_a_detail_that_the_query_names_is_not_left_out() -> None:
    kind = KINDS["escaped_how"]
    fact = Fact(kind, {"place": "the fortress", "how": "on a kite"})
    line = "I got away from {place}."
    phrases = Phrases(random.Random(1))
    vague = phrases.vague(Asked(fact, "Have you ever escaped from anywhere?"), line)
    assert vague == "I got away from a certain place."
    assert phrases.vague(Asked(fact, "How did you get out of the Fortress?"), line) is None


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_open_slots_are_key_slots_of_their_kind(kind) -> None:
    for form in (kind, kind.flipped()):
        assert kind.open <= set(form.key_slots())
        assert not kind.open & set(form.exclusive_slots())


def test_every_kind_gives_every_label() -> None:
    for name in kind_names():
        assert {label for *_, label in rows(list(generate(4, [name], 12)))} == set("ecn"), name


def test_quotation_marks_mean_nothing(personas: list[Persona]) -> None:
    quoted = {
        label: sum('"' in text for _, text, x in rows(personas) if x == label)
        / sum(x == label for *_, x in rows(personas))
        for label in "ecn"
    }
    assert max(quoted.values()) - min(quoted.values()) < 0.12, quoted
