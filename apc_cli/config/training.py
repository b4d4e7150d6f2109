"""How the role-play model is trained: SFT, DPO and GRPO."""

from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from apc_cli.config.sections import Positive, Rate, Section

Loss = Literal[
    "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot",
    "aot_unpaired", "apo_zero", "apo_down", "discopop", "sigmoid_norm",
]  # fmt: skip
"""Trl's preference losses."""
Divergence = Literal["reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"]
_DIVERGING = ("sigmoid", "sigmoid_norm", "hinge", "ipo", "exo_pair", "robust", "discopop")
Flaw = Literal[
    "empty", "repeated", "third person", "wrong verb", "as an AI", "refusal", "prompt leak"
]


class WarmUp(Section):
    """SFT on the teacher's faithful answers before DPO (experience upload); 0 epochs = none.

    An answer tells the statement that was asked for and the relevant ones beside it, from
    `min_statements` to `max_statements` in all.
    """

    epochs: Annotated[float, Field(ge=0)] = 0
    history_turns: Annotated[int, Field(ge=0)] = 0
    min_statements: Positive = 1
    max_statements: Positive = 3
    learning_rate: Rate = 2e-4
    batch_size: Positive = 8

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.min_statements > self.max_statements:
            raise ValueError("min_statements is larger than max_statements")
        return self


class Dpo(Section):
    """Preference pairs and their optimisation.

    `micro_batch_size` pairs of a batch are read at once: `auto` is what fits into the GPU's memory.

    A reply with a flaw of `guards` is never chosen, only rejected; `flaw_penalty` is taken off its
    score when the worst one is picked. Before each query stand none to
    `history_turns` exchanges about other queries. Each of `rounds` samples with the adapter of the
    one before and trains it further. With a `held_out_share` of the queries, training stops once
    the accuracy on their pairs has not risen for `patience` epochs, and keeps the best epoch.
    """

    max_queries: Positive = 100
    samples_per_query: Annotated[int, Field(ge=2)] = 2
    history_turns: Annotated[int, Field(ge=0)] = 0
    pairs_per_query: Positive = 1
    min_gap: Annotated[float, Field(ge=0)] = 0.2
    max_length_ratio: Annotated[float, Field(ge=1)] | None = None
    max_nll: Rate | None = None
    flaw_penalty: Annotated[float, Field(ge=0)] = 0
    guards: tuple[Flaw, ...] = get_args(Flaw)
    rounds: Positive = 1
    loss: Loss = "sigmoid"
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0
    f_divergence: Divergence = "reverse_kl"
    beta: Rate = 0.1
    epochs: Rate = 10
    held_out_share: Annotated[float, Field(ge=0, lt=1)] = 0
    patience: Positive = 1
    learning_rate: Rate = 2e-4
    lora_rank: Positive = 128
    lora_alpha: Positive = 8
    batch_size: Positive = 8
    micro_batch_size: Positive | Literal["auto"] = "auto"
    sft_weight: Annotated[float, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _loss_fits(self) -> Self:
        if self.f_divergence != "reverse_kl" and self.loss not in _DIVERGING:
            raise ValueError(f"f_divergence goes with the losses {', '.join(_DIVERGING)}")
        if self.label_smoothing and self.loss not in ("robust", "exo_pair"):
            raise ValueError("label_smoothing goes with the losses robust, exo_pair")
        return self


class Grpo(Section):
    """Online RL with the APC score as reward; LoRA and guards are those of `dpo`.

    A step samples `samples_per_query` replies to each of `queries_per_step` queries and learns from
    them `micro_batch_size` at a time. A reply that the guards catch loses `flaw_penalty`.
    """

    max_queries: Positive = 100
    queries_per_step: Positive = 4
    samples_per_query: Annotated[int, Field(ge=2)] = 8
    micro_batch_size: Positive = 8
    flaw_penalty: Annotated[float, Field(ge=0)] = 1.0
    loss: Literal["grpo", "dr_grpo", "dapo", "bnpo"] = "dapo"
    beta: Annotated[float, Field(ge=0)] = 0.04
    epochs: Positive = 3
    learning_rate: Rate = 2e-5
