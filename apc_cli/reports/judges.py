"""How tables call what measured."""

from collections.abc import Mapping

LLM = "LLM "
"""How the names of an evaluator that is an LLM begin."""


def judged_by(evaluator: Mapping[str, str]) -> str:
    """The evaluator pair, or the LLM by its name; `evaluator` is what reports keep of it."""
    name = evaluator["nli"]
    return f"the {name}" if name.startswith(LLM) else "the evaluator pair"
