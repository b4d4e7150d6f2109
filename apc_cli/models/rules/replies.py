"""Three replies to one question: right, wrong, and saying nothing of it."""

import re
from collections.abc import Sequence

from apc_cli.models.rules.banks import Chooser, bank
from apc_cli.models.rules.casing import lower_first, upper_first
from apc_cli.models.rules.contradictions import contradictions_of
from apc_cli.models.rules.first_person import first_person
from apc_cli.models.rules.neutral import Body, neutral_body
from apc_cli.models.rules.pronouns import Pronouns
from apc_cli.records import NLI_LABELS

_FEWEST, _MOST = 8, 40
_SHORT_FORMS = [
    (r"\bI am\b(?! not\b)(?=[ ]\w)", "I'm"),
    (r"\bI am not\b", "I'm not"),
    (r"\b(do|does|did|is|was|are|were|has|have|had|would|could) not\b", r"\1n't"),
    (r"\bcannot\b", "can't"),
]
_FRONTABLE = re.compile(
    r"^(I (?!am |was |have been )(?:[\w'-]+ )[^,;:]*?) "
    r"((?:in|around|on|since|from) (?:\w+ )?\d{4}|every \w+|"
    r"on (?:weekends|sundays|mondays|fridays)|at night|in private)$"
)
_FRONT_PERCENT, _SHORT_PERCENT = 60, 60
_OPENER_PERCENT, _LEAD_PERCENT, _CLOSER_PERCENT = 60, 30, 45


def replies_for(
    statement: str,
    query: str,
    character: str,
    own: Pronouns | None,
    seed: int,
    others: Sequence[str],
) -> dict[str, str]:
    """One reply per label; `others` are statements whose facts may stand in a neutral one."""
    wrong = contradictions_of(statement, character, own, seed)[0]
    right = first_person(statement, character, own)
    bodies = {
        "contradicted": Body(wrong, wrong),
        "neutral": neutral_body(statement, query, character, own, seed, others),
        "entailed": Body(right, right),
    }
    return {
        label: _reply(bodies[label], Chooser(seed, "reply", character, statement, query, label))
        for label in NLI_LABELS
    }


def _reply(body: Body, chooser: Chooser) -> str:
    """Dresses what is said in a voice; the same dress serves every label."""
    said = reworded(body.text, chooser)
    led = bool(body.fact) and chooser.chance("lead", _LEAD_PERCENT)
    if led:
        fact = reworded(body.fact, chooser)
        said = body.text.replace(body.fact, _led(fact, chooser))
    parts = [said]
    if not led and chooser.chance("opener", _OPENER_PERCENT):
        parts.insert(0, chooser.pick("opener", bank("phrasings")["openers"]))
    if chooser.chance("closer", _CLOSER_PERCENT) or _words(parts) < _FEWEST:
        parts.append(chooser.pick("closer", bank("phrasings")["closers"]))
    if _words(parts) < _FEWEST and parts[0] is said:
        parts.insert(0, chooser.pick("opener", bank("phrasings")["openers"]))
    while len(parts) > 1 and _words(parts) > _MOST:
        parts.remove(min(parts, key=lambda part: (part is said, len(part))))
    return " ".join(parts)


def _led(clause: str, chooser: Chooser) -> str:
    """The clause behind "The truth is that" or the like."""
    lead = chooser.pick("lead", bank("phrasings")["leads"])
    return upper_first(lead.format(clause=lower_first(clause)))


def reworded(body: str, chooser: Chooser) -> str:
    """The same in other words: a date or habit moved to the front, short forms."""
    front = _FRONTABLE.match(body.rstrip("."))
    if front and chooser.chance("front", _FRONT_PERCENT):
        body = f"{upper_first(front[2])}, {front[1]}."
    if chooser.chance("short", _SHORT_PERCENT):
        for pattern, short in _SHORT_FORMS:
            body = re.sub(pattern, short, body)
    return body


def _words(parts: Sequence[str]) -> int:
    return sum(len(part.split()) for part in parts)
