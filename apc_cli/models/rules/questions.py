"""What a user would say to hear a statement's information."""

import re
from collections.abc import Sequence
from functools import cache

from apc_cli.models.rules.banks import Chooser, bank, words
from apc_cli.models.rules.names import names_of
from apc_cli.models.rules.phrases import Parts, parts_of
from apc_cli.models.rules.pronouns import Pronouns
from apc_cli.models.rules.topics import topics_of
from apc_cli.models.rules.verbs import inflect

_MOST_WORDS = 22
_CASUAL_PERCENT = 30
_TYPO_PERCENT = 25
_WORD = re.compile(r"\w+(?:'\w+)?")


def questions_for(
    statement: str, character: str, own: Pronouns | None, count: int, seed: int, taken: set[str]
) -> list[str]:
    """`count` utterances, none of them in `taken` while others are left."""
    chooser = Chooser(seed, "query", character, statement)
    candidates = _candidates(statement, character, own, chooser)
    usable = [text for text in candidates if _is_usable(text, character)]
    fresh = [text for text in usable if plain(text) not in taken]
    chosen = list(dict.fromkeys(fresh + usable))[:count]
    taken.update(plain(text) for text in chosen)
    return [_styled(text, chooser, index) for index, text in enumerate(chosen)]


def plain(query: str) -> str:
    """The query without case and punctuation."""
    return " ".join(_WORD.findall(query.lower().replace("’", "'")))


@cache
def bank_topic() -> dict[str, str]:
    """The topic of every ready-made question."""
    return {plain(text): topic for topic, entry in bank("topics").items() for text in entry["ask"]}


@cache
def frame_patterns() -> list[re.Pattern[str]]:
    """Patterns that find again what was put into a frame."""
    found = []
    for texts in bank("questions").values():
        for text in texts:
            bare = plain(re.sub(r"\{(do|What_is)\}", "SLOTWORD", text).replace("{", "SLOT"))
            parts = re.split(r"slotword|slot(?:you|np|verb|past_or_base|quoted)", bare)
            slots = re.findall(r"slotword|slot(?:you|np|verb|past_or_base|quoted)", bare)
            pattern = re.escape(parts[0])
            for slot, rest in zip(slots, parts[1:], strict=True):
                pattern += (r"[\w' ]+" if slot == "slotword" else "(.+)") + re.escape(rest)
            found.append(re.compile(pattern + "$"))
    return found


def _candidates(
    statement: str, character: str, own: Pronouns | None, chooser: Chooser
) -> list[str]:
    topics = topics_of(statement, character)
    parts = parts_of(statement, character, own)
    general = chooser.order("topic", bank("topics")[topics[0]]["ask"])
    made = _made(parts, chooser)
    told = chooser.order("told", [_told(frame, parts) for frame in bank("questions")["told"]])
    second = bank("topics")[topics[1]]["ask"] if len(topics) > 1 else []
    spare = chooser.order("second", second)
    if topics[0] in words("weak_topics"):
        return _woven(made, general, told[:1]) + told[1:] + spare
    return _woven(general, made, told[:1]) + spare + told[1:]


def _woven(*lists: Sequence[str]) -> list[str]:
    longest = max(map(len, lists))
    return [texts[i] for i in range(longest) for texts in lists if i < len(texts)]


def _made(parts: Parts, chooser: Chooser) -> list[str]:
    """Questions built around the statement's own verb and noun phrase."""
    frames = bank("questions")
    made: list[str] = []
    if parts.owned:
        made += [_owned(frame, parts) for frame in chooser.order("owned", frames["owned"])]
    if parts.verb:
        made += [_verb(frame, parts) for frame in chooser.order("verb", frames["verb"])[:1]]
    if parts.object:
        key = "about" if _is_definite(parts.object) else "about_any"
        made += [_about(frame, parts.object) for frame in chooser.order("np", frames[key])]
    return made


def _verb(frame: str, parts: Parts) -> str:
    do = "did" if parts.past else "do"
    first, _, rest = parts.verb.partition(" ")
    form = " ".join([inflect(first, "VBD"), rest]).strip() if parts.past else parts.verb
    return frame.format(do=do, verb=parts.verb, past_or_base=form)


def _is_definite(phrase: str) -> bool:
    first = phrase.split()[0].lower()
    return first not in {"a", "an", "some"} and first not in words("numerals")


def _about(frame: str, phrase: str) -> str:
    bare = re.sub(r"^(a|an|the|your) ", "", phrase)
    return frame.format(np=phrase, quoted=f'"{bare}"')


def _owned(frame: str, parts: Parts) -> str:
    return frame.format(np=parts.owned, What_is="What are" if parts.owned_plural else "What is")


def _told(frame: str, parts: Parts) -> str:
    return frame.format(you=parts.you)


def _is_usable(text: str, character: str) -> bool:
    return len(text.split()) <= _MOST_WORDS and not names_of(character).mentioned(text)


def _styled(text: str, chooser: Chooser, index: int) -> str:
    """Now and then as people type in haste: no capital, no final mark, letters swapped."""
    if index == 0 or not chooser.chance(f"casual{index}", _CASUAL_PERCENT):
        return text
    hasty = text[0].lower() + text[1:] if not text.startswith(("I ", "I'")) else text
    hasty = hasty.rstrip(".?") if chooser.chance(f"mark{index}", 50) else hasty
    return _typo(hasty, chooser, index) if chooser.chance(f"typo{index}", _TYPO_PERCENT) else hasty


def _typo(text: str, chooser: Chooser, index: int) -> str:
    long = [match for match in re.finditer(r"[a-z]{6,}", text)]
    if not long:
        return text
    spot = chooser.pick(f"typo/{index}", long).start() + 2
    return text[:spot] + text[spot + 1] + text[spot] + text[spot + 2 :]
