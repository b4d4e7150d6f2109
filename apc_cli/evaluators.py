"""Who measures a character: by what name reports know it, and what decides its verdicts."""

from pathlib import Path
from typing import Any

from apc_cli.config import Character
from apc_cli.records import READING
from apc_cli.reports.judges import LLM


def measured_by_llm(character: Character) -> bool:
    """Whether an LLM measures, not a pair of discriminators."""
    return character.evaluator.backend == "openai"


def evaluator_name(character: Character) -> dict[str, str]:
    """The evaluator's references; says so when it is the very pair that was optimised."""
    if measured_by_llm(character):
        from apc_cli.teaching import evaluator_model

        return dict.fromkeys(("relevance", "nli"), f"{LLM}{evaluator_model(character)}")
    pair, reward = character.evaluator, character.discriminators
    name = {"relevance": pair.relevance, "nli": pair.nli}
    if reward.source == "pretrained" and name == {
        "relevance": reward.relevance,
        "nli": reward.nli,
    }:
        name["warning"] = "the evaluator is the reward pair: its gain is not independent"
    return name


def verdict_facts(character: Character) -> dict[str, Any]:
    """What decides the evaluator's verdicts: its models by content, or the LLM."""
    facts: dict[str, Any] = {
        "language": character.language, "weights": character.persona.weights, "reading": READING,
    }  # fmt: skip
    if measured_by_llm(character):
        from apc_cli.models.llm.chat_endpoint import address_in_environment

        teacher = character.teacher
        address = teacher.base_url or address_in_environment()
        return facts | {
            "llm": evaluator_name(character), "server": address, "samples": teacher.label_samples,
        }  # fmt: skip
    from apc_cli.models.references import digest, expanded, local_directories, outline, resolve

    pair = character.evaluator
    places = {name: Path(resolve(name)) for name in (pair.relevance, pair.nli)}
    facts["judges"] = [(n, digest(p) if p.is_dir() else "") for n, p in places.items()]
    bases = [outline(expanded(base)) for n in places for base in local_directories(n)[1:]]
    return facts | ({"bases": bases} if bases else {})
