"""All settings of one character."""

from typing import Annotated, Literal

from pydantic import Field

from apc_cli.config.sections import (
    Discriminators,
    Evaluation,
    Evaluator,
    Persona,
    Policy,
    Section,
    Teacher,
)
from apc_cli.config.training import Dpo, Grpo, WarmUp


class Character(Section):
    """Everything that can be configured for one character."""

    character: Annotated[str, Field(min_length=1, max_length=200)]
    language: Literal["en", "ja", "zh"] = "en"
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    device: str = "cuda"
    persona: Persona = Persona()
    teacher: Teacher = Teacher()
    discriminators: Discriminators = Discriminators()
    evaluator: Evaluator = Evaluator()
    policy: Policy = Policy()
    warm_up: WarmUp = WarmUp()
    algorithm: Literal["dpo", "grpo"] = "dpo"
    dpo: Dpo = Dpo()
    grpo: Grpo = Grpo()
    evaluation: Evaluation = Evaluation()

    @property
    def sft_epochs(self) -> float:
        """Passes of SFT before DPO; experience upload is SFT, the paper's 20 passes by default."""
        return self.warm_up.epochs or (20 if self.policy.method == "eu" else 0)
