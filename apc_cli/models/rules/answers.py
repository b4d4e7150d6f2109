"""One reply that tells several facts, in the order in which they are given."""

from collections.abc import Sequence

from apc_cli.models.rules.banks import Chooser, bank
from apc_cli.models.rules.casing import lower_first, upper_first
from apc_cli.models.rules.first_person import first_person
from apc_cli.models.rules.pronouns import Pronouns
from apc_cli.models.rules.replies import reworded

_LINK_PERCENT = 40


def answer_for(
    query: str, statements: Sequence[str], character: str, own: Pronouns | None, seed: int
) -> str:
    """The statements in the first person, one sentence each; some follow on from the one before."""
    chooser = Chooser(seed, "answer", character, query, *statements)
    return " ".join(sentences_for(statements, character, own, chooser))


def sentences_for(
    statements: Sequence[str], character: str, own: Pronouns | None, chooser: Chooser
) -> list[str]:
    """One first-person sentence a statement, some linked to the one before, no two links alike."""
    sentences = []
    links = list(bank("phrasings")["links"])
    for number, statement in enumerate(statements):
        said = reworded(first_person(statement, character, own), chooser)
        if number and links and chooser.chance(f"link{number}", _LINK_PERCENT):
            link = chooser.pick(f"link{number}", links)
            links.remove(link)
            said = upper_first(link.format(clause=lower_first(said)))
        sentences.append(said)
    return sentences
