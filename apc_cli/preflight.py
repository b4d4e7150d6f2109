"""What would stop stages, found out before any of them costs time or money."""

import shutil
from collections.abc import Collection, Iterator, Set
from pathlib import Path

from apc_cli.config import Character
from apc_cli.errors import ApcError, ConfigError
from apc_cli.evaluators import measured_by_llm
from apc_cli.stages import ROUND
from apc_cli.workshop import Workshop

_TAUGHT = {"statements", "queries", "label-data", "experience"}
_PLAYED = {"experience", "warm-up", "build-dpo", "dpo", "grpo", "evaluation"}
_WEIGHED = {"warm-up", "dpo", "grpo", "evaluation"}
_TRAINED = {"warm-up", "dpo", "grpo"}
_FLOAT = 4
"""Bytes of a weight of an adapter; AdamW keeps two more such numbers of each in a checkpoint."""
_MODELLED = {"train-discriminators"} | _PLAYED


def preflight(shop: Workshop, stages: Collection[str]) -> None:
    """Finds out whether all that these stages need is there.

    Raises:
        ConfigError: no key for the teacher, no GPU, or weights that are not installed.
        ApcError: no space for the adapters and their checkpoints.
    """
    character, stages = shop.character, {name.partition(ROUND)[0] for name in stages}
    lists_statements = {"statements"} if character.persona.statements else set()
    if _TAUGHT & stages - lists_statements:
        shop.teacher  # noqa: B018 - a teacher without its key cannot be made
    if "evaluation" in stages and measured_by_llm(character):
        shop.evaluator  # noqa: B018 - the same for an LLM that measures
    if _PLAYED & stages and character.policy.backend == "openai":
        shop.served_player  # noqa: B018 - without its key it cannot be made
    if not _MODELLED & stages:
        return
    from apc_cli.models.devices import pick_device
    from apc_cli.models.references import check

    pick_device(character.device)
    for reference in _references(character, stages):
        check(reference)
    _check_training_space(shop, _TRAINED & stages)


def _check_training_space(shop: Workshop, training: Set[str]) -> None:
    """An adapter of each stage, and one checkpoint: what they take at the very least."""
    policy = shop.character.policy
    if not training or policy.backend != "transformers":
        return
    from apc_cli.models.sizes import count_weights

    if counted := count_weights(policy.model, shop.character.dpo.lora_rank):
        needed = (len(training) + 3) * _FLOAT * counted[1]
        _check_space(shop.workspace.directory, needed, "adapters and a checkpoint")


def check_export_space(shop: Workshop, target: Path, *, merged: bool, dtype: str) -> None:
    """Raises ApcError where an export has no space at its target."""
    from apc_cli.models.devices import pick_device, pick_dtype
    from apc_cli.models.sizes import count_weights

    form = pick_dtype(dtype, pick_device(shop.character.device))
    if counted := count_weights(shop.character.policy.model, shop.character.dpo.lora_rank):
        whole, adapter = counted
        needed = whole * form.itemsize if merged else adapter * _FLOAT
        _check_space(target, needed, "the merged model" if merged else "the adapter")


def _check_space(target: Path, needed: int, what: str) -> None:
    there = next(place for place in (target, *target.absolute().parents) if place.is_dir())
    if (free := shutil.disk_usage(there).free) < needed:
        raise ApcError(
            f"{there} has {free / 1e9:.2f} GB free, {what} will take {needed / 1e9:.2f} GB",
            "free some space, or choose another place with --workspace or --to",
        )


def check_backend(character: Character, stages: Collection[str]) -> None:
    """Raises ConfigError for stages that a role-play model behind a server cannot run."""
    if character.policy.backend != "openai":
        return
    if any(ROUND in name for name in stages):
        raise ConfigError(
            "a second round of DPO needs the model's weights, which policy.backend: openai has not",
            "set dpo.rounds: 1",
        )
    if needing := sorted(_WEIGHED & set(stages)):
        raise ConfigError(
            f"{', '.join(needing)} needs the model's weights, which policy.backend: openai has not",
            "sample with `apc build-dpo` on the server, then train with policy.backend: "
            "transformers and the same policy.model: the pairs are used as they are",
        )
    if "build-dpo" in stages and character.dpo.max_nll is not None:
        raise ConfigError(
            "dpo.max_nll needs the model's weights: a server tells no likelihoods",
            "set dpo.max_nll: null, or policy.backend: transformers",
        )


def check_sharding(character: Character, stages: Collection[str], processes: int) -> None:
    """Raises ConfigError for stages that cannot train a model that is shared out."""
    if character.policy.sharding != "full":
        return
    if "grpo" in stages:
        raise ConfigError(
            "GRPO samples while it trains, which a model that is shared out cannot",
            "use --algorithm dpo, or set policy.sharding: none",
        )
    training = {name.partition(ROUND)[0] for name in stages} & {"warm-up", "dpo"}
    if training and processes == 1:
        raise ConfigError(
            f"policy.sharding: full: {', '.join(sorted(training))} needs several processes",
            "run: apc train --num-gpus 2, or more",
        )


def _references(character: Character, stages: Set[str]) -> Iterator[str]:
    """The models that these stages load."""
    judges, evaluator = character.discriminators, character.evaluator
    if _PLAYED & stages:
        if character.policy.backend == "transformers":
            yield character.policy.model
        if character.policy.retriever == "embedding":
            yield character.policy.embedder
        if judges.source == "pretrained":
            yield from (judges.relevance, judges.nli)
    if "train-discriminators" in stages:
        yield from (judges.base_relevance, judges.base_nli)
    if "evaluation" in stages and not measured_by_llm(character):
        yield from (evaluator.relevance, evaluator.nli)
