"""Which pronouns a text uses for the character."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from apc_cli.models.rules.names import names_of
from apc_cli.models.rules.tokens import Token, tokenise


@dataclass(frozen=True)
class Pronouns:
    """One set of third-person pronouns."""

    subject: str
    object: str
    possessive: str
    absolute: str
    reflexive: str

    @property
    def plural(self) -> bool:
        return self.subject == "they"

    def forms(self) -> frozenset[str]:
        return frozenset(
            {self.subject, self.object, self.possessive, self.absolute, self.reflexive}
        )


SHE = Pronouns("she", "her", "her", "hers", "herself")
HE = Pronouns("he", "him", "his", "his", "himself")
THEY = Pronouns("they", "them", "their", "theirs", "themself")
IT = Pronouns("it", "it", "its", "its", "itself")
_CLEAR = {form: kind for kind in (SHE, HE) for form in kind.forms()}
_UNCLEAR = {"their": THEY, "themself": THEY, "its": IT, "itself": IT}
_OPENING = {
    "she": SHE,
    "he": HE,
    "they": THEY,
    "it": IT,
    "her": SHE,
    "his": HE,
    "its": IT,
    "their": THEY,
}
_OPENING_WEIGHT = 3


def pronouns_in(character: str, texts: Iterable[str]) -> Pronouns | None:
    """The set that the texts use most for the character; None when they use none."""
    return _pronouns_in(character, tuple(texts))


@cache
def _pronouns_in(character: str, texts: tuple[str, ...]) -> Pronouns | None:
    names = names_of(character)
    votes: Counter[Pronouns] = Counter()
    for text in texts:
        for line in _sentences(text):
            _vote(names.tokenise(line), votes)
    if not votes:
        return _only_kind(texts, names.mentioned)
    clear = [kind for kind in (SHE, HE) if votes[kind]]
    best = max(votes, key=lambda kind: (votes[kind], kind.subject), default=None)
    if best in (THEY, IT) and clear and votes[clear[0]] * 2 >= votes[best]:
        return max(clear, key=lambda kind: votes[kind])
    return best


def _only_kind(texts: Iterable[str], mentioned: Callable[[str], bool]) -> Pronouns | None:
    """The set that stands beside the name, if "he" and "she" are not both there."""
    found = {
        _CLEAR[token.low]
        for text in texts
        if mentioned(text)
        for token in tokenise(text)
        if token.low in _CLEAR
    }
    return found.pop() if len(found) == 1 else None


def _sentences(text: str) -> list[str]:
    return text.replace("\n", ". ").split(". ")


def _vote(tokens: Sequence[Token], votes: Counter[Pronouns]) -> None:
    if not tokens:
        return
    opening = _OPENING.get(tokens[0].low)
    if opening:
        votes[opening] += _OPENING_WEIGHT
    named = next((index for index, token in enumerate(tokens) if token.name), None)
    if named is None or _is_possessor(tokens, named):
        return
    for token in tokens[named + 1 :]:
        found = _CLEAR.get(token.low) or _UNCLEAR.get(token.low)
        if found:
            votes[found] += 1
            return


def _is_possessor(tokens: Sequence[Token], index: int) -> bool:
    return index + 1 < len(tokens) and tokens[index + 1].is_clitic
