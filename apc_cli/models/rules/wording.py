"""How a persona statement is worded: several facts at once, or none that could be checked."""

from collections.abc import Sequence

from apc_cli.models.rules.banks import words
from apc_cli.models.rules.first_person import first_person
from apc_cli.models.rules.names import names_of
from apc_cli.models.rules.pronouns import pronouns_in
from apc_cli.models.rules.segments import is_english
from apc_cli.models.rules.sentences import facts_of


def facts_in_each(character: str, statements: Sequence[str]) -> list[list[str]]:
    """The atomic statements that each statement of a persona makes."""
    own = pronouns_in(character, statements)
    return [facts_of(character, statement, own) for statement in statements]


def is_vague(character: str, statement: str) -> bool:
    """Whether nothing is left once names and words that say little are taken away."""
    if not is_english(statement):
        return False
    told = [t for t in names_of(character).tokenise(statement) if t.is_word and not t.name]
    empty = words("function_words") | words("empty_words") | words("vague_words")
    empty -= words("telling_words")
    return all(token.low in empty or token.is_clitic for token in told)


def told_by(character: str, statements: Sequence[str]) -> list[str]:
    """Each statement as the character would say it of itself."""
    own = pronouns_in(character, statements)
    return [first_person(s, character, own) if is_english(s) else s for s in statements]
