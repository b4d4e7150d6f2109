"""The sections of a character's configuration, but for training; each key has a default.

The defaults reproduce the paper (section 4).
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """Frozen, and an unknown key is an error."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=()
    )


class Persona(Section):
    """Where the facts come from; `weights`: how much a statement counts, where that is not 1."""

    wiki: str | None = None
    statements: str | None = None
    protective: tuple[str, ...] = ()
    weights: dict[str, Annotated[float, Field(ge=0)]] = {}


class Teacher(Section):
    """Who writes statements, queries and labelled data.

    `label_samples` answers are drawn for a judgement where the server gives no log-probabilities;
    prices are US dollars per million tokens, for models that the price table does not know; a stage
    stops when more than the share `max_failed` of its questions have no answer.
    """

    backend: Literal["openai", "rules"] = "openai"
    model: str = "gpt-4.1"
    base_url: str | None = None
    insecure_http: bool = False
    concurrency: Positive = 16
    batch: bool = False
    label_samples: Positive = 5
    max_cost: Rate | None = None
    max_requests: Positive | None = None
    price_input: Annotated[float, Field(ge=0)] | None = None
    price_output: Annotated[float, Field(ge=0)] | None = None
    max_failed: Share = 0.2
    queries_per_statement: Positive = 3
    other_queries: Annotated[int, Field(ge=0)] = 5
    other_replies: Annotated[int, Field(ge=0)] = 9

    @model_validator(mode="after")
    def _whole_price(self) -> Self:
        if (self.price_input is None) != (self.price_output is None):
            raise ValueError("price_input and price_output go together")
        return self


class Pair(Section):
    """A relevance and an NLI discriminator: hub ids, directories, `package:` or `judge:` names."""

    relevance: str = "KomeijiForce/deberta-v3-large-relevance-12character"
    nli: str = "KomeijiForce/deberta-v3-large-nli-12character"


class Evaluator(Pair):
    """Who measures: a pair of discriminators, or an LLM at the teacher's server.

    `model` is the LLM's name; without one it is the teacher's.
    """

    backend: Literal["discriminators", "openai"] = "discriminators"
    model: str | None = None


class Discriminators(Pair):
    """The reward pair; `source: train` fits it to the character's own teacher data."""

    source: Literal["pretrained", "train"] = "pretrained"
    base_relevance: str = "microsoft/deberta-v3-large"
    base_nli: str = "microsoft/deberta-v3-large"
    relevance_epochs: Rate = 5
    nli_epochs: Rate = 10
    learning_rate: Rate = 1e-5
    batch_size: Positive = 8
    test_share: Share = 0.2


class Policy(Section):
    """The role-play model and how it is prompted and sampled.

    `batch_size` replies are under way at a time; `auto`: what memory takes, at most 512
    on a GPU and 64 on a CPU, or 16 of a model that `generate` samples.
    With `backend: openai` replies come from an OpenAI-compatible server, which knows it as `model`.
    With `sharding: full` a model may be larger than a GPU: its layers are shared out among the
    processes that train, and spread over all GPUs of a machine where it plays.
    """

    backend: Literal["transformers", "openai"] = "transformers"
    model: str = "google/gemma-1.1-7b-it"
    base_url: str | None = None
    insecure_http: bool = False
    concurrency: Positive = 16
    quantization: Literal["auto", "nf4", "none"] = "auto"
    sharding: Literal["none", "full"] = "none"
    method: Literal["rag", "lcm", "eu", "vanilla"] = "rag"
    rag_top_k: Positive = 5
    retriever: Literal["discriminator", "embedding"] = "discriminator"
    embedder: str = "sentence-transformers/all-MiniLM-L6-v2"
    max_new_tokens: Positive = 256
    max_prompt_tokens: Positive = 1536
    temperature: Rate = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    min_p: Annotated[float, Field(ge=0, lt=1)] = 0.0
    repetition_penalty: Rate = 1.0
    batch_size: Positive | Literal["auto"] = "auto"

    @property
    def replies_at_once(self) -> int | None:
        """The batch size; None where it is left to the program."""
        return None if self.batch_size == "auto" else self.batch_size

    @model_validator(mode="after")
    def _whole_numbers(self) -> Self:
        if self.sharding == "full" and self.quantization != "none":
            raise ValueError("sharding: full goes with quantization: none")
        return self


class Evaluation(Section):
    """The before/after table: replies a query, held-out queries, bootstrap resamples."""

    samples_per_query: Positive = 2
    held_out_queries: Positive = 10
    resamples: Positive = 2000
