"""One character's configuration: defaults < profile < character file < --set.

Every key has a default; the defaults reproduce the paper (section 4).
"""

import json
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from apc_cli.errors import ConfigError
from apc_cli.files.yaml_files import flatten, merge, parse_setting, read_mapping

Positive = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(gt=0)]
Loss = Literal[
    "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot",
    "aot_unpaired", "apo_zero", "apo_down", "discopop", "sigmoid_norm",
]  # fmt: skip
"""Trl's preference losses."""
Divergence = Literal["reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"]
_DIVERGING = ("sigmoid", "sigmoid_norm", "hinge", "ipo", "exo_pair", "robust", "discopop")
Flaw = Literal["empty", "repeated", "third person", "as an AI", "refusal", "prompt leak"]
_ALTERNATIVE = ("constrained-", "literal[")
"""How pydantic begins the name of one of several types that a value may have."""
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

    `batch_size` replies are under way at a time; `auto`: as many as the GPU's memory takes. With
    `backend: openai` replies come from an OpenAI-compatible server, which knows it as `model`.
    """

    backend: Literal["transformers", "openai"] = "transformers"
    model: str = "google/gemma-1.1-7b-it"
    base_url: str | None = None
    insecure_http: bool = False
    concurrency: Positive = 16
    quantization: Literal["auto", "nf4", "none"] = "auto"
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

    A reply with a flaw of `guards` is never chosen, only rejected. Before each query stand none to
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
    guards: tuple[Flaw, ...] = (
        "empty", "repeated", "third person", "as an AI", "refusal", "prompt leak"
    )  # fmt: skip
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


class Evaluation(Section):
    """The before/after table: replies a query, held-out queries, bootstrap resamples."""

    samples_per_query: Positive = 2
    held_out_queries: Positive = 10
    resamples: Positive = 2000


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


@dataclass(frozen=True)
class Configuration:
    """A resolved character and, for each dotted key, where its value came from."""

    character: Character
    origins: dict[str, str]
    profile: str

    def value(self, dotted: str) -> Any:
        """The value of a dotted key, as JSON data: `value("dpo.beta")`, `value("dpo")`."""
        found: Any = self.character.model_dump(mode="json")
        for part in dotted.split("."):
            found = found[part]
        return found

    def with_values(self, values: dict[str, Any], origin: str) -> "Configuration":
        """This configuration with some values replaced, checked like a file's."""
        merged = self.character.model_dump(mode="json")
        merge(merged, values)
        origins = self.origins | {key: origin for key, _ in flatten(values)}
        return Configuration(_validate(merged, origins), origins, self.profile)

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """(dotted key, value as YAML, origin) of every key."""
        for key, value in flatten(self.character.model_dump(mode="json")):
            shown = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True).strip()
            yield key, shown.removesuffix("...").strip(), self.origins.get(key, "default")


def load_config(
    character: str | None,
    *,
    file: Path | None = None,
    profile: str = "gpu",
    settings: tuple[str, ...] = (),
    folder: Path = Path("."),
) -> Configuration:
    """Resolves a character's configuration.

    `--character Alice` finds configs/Alice.yaml in any case, else wiki/Alice_wiki.txt.

    Raises:
        ConfigError: unknown character, profile or key, or a value of the wrong type.
    """
    path = file or _find_file(character, folder)
    layers: list[tuple[str, dict[str, Any]]] = [(f"profile {profile}", _profile(profile))]
    if path:
        layers.append((str(path), read_mapping(path)))
    else:
        layers.append(("--character", {"character": _name_from_wiki(character, folder)}))
    for setting in settings:
        layers.append((f"--set {setting}", parse_setting(setting)))
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, layer in layers:
        merge(merged, layer)
        origins |= {key: origin for key, _ in flatten(layer)}
    return Configuration(_validate(merged, origins), origins, profile)


def _validate(merged: dict[str, Any], origins: dict[str, str]) -> Character:
    try:
        return Character.model_validate_json(json.dumps(merged), strict=True)
    except ValidationError as error:
        problems = [_explain(problem, origins) for problem in error.errors()]
        raise ConfigError("; ".join(problems), "see `apc config show` for all keys") from None


def _explain(problem: Any, origins: dict[str, str]) -> str:
    parts = [str(part) for part in problem["loc"]]
    key = ".".join(part for part in parts if not part.startswith(_ALTERNATIVE))
    origin = origins.get(key) or next((o for k, o in origins.items() if k.startswith(key)), "")
    place = f" (from {origin})" if origin else ""
    if problem["type"] == "missing":
        return f"{key} is missing"
    if problem["type"] != "extra_forbidden":
        return f"{key}: {problem['msg']}, got {problem['input']!r}{place}"
    known = [name for name, _ in flatten(Character(character="x").model_dump())]
    known += list(Character.model_fields)
    nearest = get_close_matches(key, known, n=1)
    return f"unknown key {key}{place}" + (f", did you mean {nearest[0]}?" if nearest else "")


def _find_file(character: str | None, folder: Path) -> Path | None:
    if character is None:
        raise ConfigError("no character given", "use --character NAME or --config FILE")
    for path in sorted((folder / "configs").glob("*.yaml")):
        if _folded(path.stem) == _folded(character):
            return path
    return None


def _name_from_wiki(character: str | None, folder: Path) -> str:
    for path in sorted((folder / "wiki").glob("*_wiki.txt")):
        name = path.name.removesuffix("_wiki.txt")
        if _folded(name) == _folded(str(character)):
            return name
    known = sorted(path.stem for path in (folder / "configs").glob("*.yaml"))
    hint = f"write wiki/{character}_wiki.txt, or configs/{character}.yaml"
    if known:
        hint += f"; known here: {', '.join(known)}"
    raise ConfigError(f"character '{character}' is unknown", hint)


def _folded(name: str) -> str:
    """The name in any case, and however its accents are encoded."""
    return unicodedata.normalize("NFC", name).casefold()


def _profile(name: str) -> dict[str, Any]:
    folder = Path(__file__).parent / "profiles"
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in known:
        raise ConfigError(f"profile '{name}' is unknown", f"known: {', '.join(known)}")
    return read_mapping(folder / f"{name}.yaml")
