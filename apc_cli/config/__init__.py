"""One character's configuration: defaults < profile < character file < --set.

Every key has a default; the defaults reproduce the paper (section 4).
"""

from apc_cli.config.character import Character
from apc_cli.config.loading import Configuration, load_config
from apc_cli.config.sections import (
    Discriminators,
    Evaluation,
    Evaluator,
    Pair,
    Persona,
    Policy,
    Section,
    Teacher,
)
from apc_cli.config.training import Divergence, Dpo, Flaw, Grpo, Loss, WarmUp

__all__ = [
    "Character",
    "Configuration",
    "Discriminators",
    "Divergence",
    "Dpo",
    "Evaluation",
    "Evaluator",
    "Flaw",
    "Grpo",
    "Loss",
    "Pair",
    "Persona",
    "Policy",
    "Section",
    "Teacher",
    "WarmUp",
    "load_config",
]
