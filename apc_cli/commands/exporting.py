"""`apc export`: a trained character as a directory that other programs load, and its card."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apc_cli.conversations import conversation
from apc_cli.errors import ApcError, ConfigError
from apc_cli.evaluators import evaluator_name
from apc_cli.prompts import interview_questions, role_play_messages
from apc_cli.reports import serving
from apc_cli.reports.model_card import measured_tables, model_card
from apc_cli.reports.serving import Exported
from apc_cli.workshop import Workshop
from apc_cli.workspace import digest, write_text

if TYPE_CHECKING:
    from apc_cli.models.playing.role_player import RolePlayer

_SYSTEM_TOKENS = 2048
"""A longer list of statements stays out of the Modelfile's system text."""
_ALWAYS = {"Modelfile", "statements.txt", "README.md"}
"""Files of every export: what has them, and nothing but an export's, may be replaced."""
_WEIGHTS_AND_SETTINGS = {".safetensors", ".json", ".jinja", ".model"}
_VOCABULARY = {"vocab.txt", "merges.txt"}


def export(
    shop: Workshop, target: Path, *, merged: bool, dtype: str, force: bool
) -> list[tuple[str, list[str]]]:
    """Writes the directory; returns the lines that serve it, by server.

    Raises:
        ConfigError: the target is there already, or the adapter belongs to another base model.
        ApcError: merging changed what the model says.
    """
    from apc_cli.models import references  # noqa: PLC0415
    from apc_cli.models.adapters import save_adapter  # noqa: PLC0415
    from apc_cli.models.playing import merging  # noqa: PLC0415 - heavy

    algorithm, settings = _training(shop)
    base = references.published(shop.character.policy.model)
    player = shop.plain_player("adapter", dtype)
    probe = _example(shop)
    notes = list(_notes(shop, base))
    rank = None if merged else player.model.peft_config["default"].r
    made = Exported(
        name=serving.served_name(shop.character.character),
        directory=target,
        base=base.name,
        rank=rank,
        architecture=type(player.model.get_base_model()).__name__,
    )
    with _new_directory(target, force=force) as folder:
        if merged:
            difference = merging.merge(player, probe)
            notes.append(
                f"Merging in {dtype_name(player)} moved next-token probabilities by "
                f"{difference:.2g} (total variation, mean over a prompt): rounding."
            )
            merging.save_merged(player, folder, shop.character.policy)
        else:
            save_adapter(player.model, folder, base=base.name)
            player.tokenizer.save_pretrained(folder)
        system = _system_text(shop, player)
        remarks = [] if system[1] else ["The persona statements are too long for a system text."]
        write_text(
            folder / "Modelfile",
            serving.modelfile(made, shop.character.policy, system[0], remarks),
        )
        write_text(folder / "statements.txt", "".join(f"{s}\n" for s in shop.statements()))
        facts = _facts(shop, player, base, made, notes, probe, folder)
        card = model_card(facts | {"algorithm": algorithm, "settings": settings})
        write_text(folder / "README.md", card)
    return serving.serving_lines(made)


def dtype_name(player: "RolePlayer") -> str:
    """Such as `bfloat16`."""
    return str(player.model.dtype).removeprefix("torch.")


def _example(shop: Workshop) -> list[dict[str, str]]:
    return conversation(shop, interview_questions(shop.character.language)[0])


def _system_text(shop: Workshop, player: "RolePlayer") -> tuple[str, bool]:
    """(system text for a server that retrieves nothing, whether the statements are in it)."""
    name, language = shop.character.character, shop.character.language
    shown = [] if shop.character.policy.method in ("vanilla", "eu") else shop.statements()
    full = role_play_messages(language, name, shown, "")
    if player.count_tokens(full) <= _SYSTEM_TOKENS:
        return full[0]["content"], True
    return role_play_messages(language, name, [], "")[0]["content"], False


def _quantized(shop: Workshop) -> bool:
    """Whether the adapter was trained over 4-bit weights."""
    quantization = shop.character.policy.quantization
    on_gpu = shop.character.device.startswith("cuda")
    return quantization == "nf4" or (quantization == "auto" and on_gpu)


def _notes(shop: Workshop, base: Any) -> Iterator[str]:
    if base.remark:
        yield base.remark
    if _quantized(shop):
        yield "Trained over 4-bit weights (nf4); exported for the unquantised base model."
    yield (
        "The judges that ranked and measured its replies make mistakes, and a model may state as "
        "the character's what no statement says. Do not take its words for facts."
    )


def _facts(
    shop: Workshop,
    player: "RolePlayer",
    base: Any,
    made: Exported,
    notes: list[str],
    probe: list[dict[str, str]],
    folder: Path,
) -> dict[str, Any]:
    """What the model card tells, but for how the adapter was trained."""
    character, policy = shop.character, shop.character.policy
    quick, full = _measured(shop)
    evaluator = evaluator_name(shop.character)
    hashes = {
        name: value
        for name in ("statements.jsonl", "queries.jsonl", "pairs.jsonl", "adapter")
        if (value := shop.workspace.digest(name))
    }
    hashes |= {p.name: str(digest(p)) for p in sorted(folder.glob("*.safetensors"))}
    return {
        "base": base.name,
        "rank": made.rank,
        "language": character.language,
        "licence": base.licence or "other",
        "licence_note": base.licence or "see its own page; it applies to this model too",
        "character": character.character,
        "notes": notes,
        "counts": list(_counts(shop)),
        "measured": measured_tables(quick, full),
        "warning": evaluator.get("warning") if quick or full else None,
        "system_role": player.keeps_system_role,
        "example": probe[0]["content"],
        "method": policy.method,
        "top_k": policy.rag_top_k,
        "statements": len(shop.statements()),
        "sampling": ", ".join(
            f"{key} {getattr(policy, key)}"
            for key in ("temperature", "top_p", "min_p", "repetition_penalty", "max_new_tokens")
        ),
        "serving": serving.serving_lines(replace(made, directory=Path("."))),
        "hashes": hashes,
    }


def _training(shop: Workshop) -> tuple[str, dict[str, Any]]:
    """(algorithm, settings) that the adapter was trained with, whatever is configured now.

    Raises:
        ConfigError: it was trained to be prompted in another way than is configured.
    """
    manifest = shop.workspace.manifest()
    made = [stage for stage, entry in manifest.items() if "adapter" in entry["outputs"]]
    if not made:
        raise ConfigError("the adapter's training did not end", "run apc train again")
    settings: dict[str, Any] = {}
    for stage in ("warm-up", "build-dpo", made[0]):
        settings |= manifest.get(stage, {"config": {}})["config"]
    method = shop.character.policy.method
    if settings.get("policy.method", method) != method:
        trained = settings["policy.method"]
        raise ConfigError(
            f"the adapter was trained with policy.method {trained}, {method} is configured",
            f"add --set policy.method={trained}",
        )
    before = [name for name in manifest[made[0]]["inputs"] if name.startswith("rounds/")]
    if before:
        settings["dpo.rounds"] = 1 + max(int(name.split("/")[1]) for name in before)
    told = {key: value for key, value in settings.items() if key not in ("character", "language")}
    return ("grpo" if made[0] == "grpo" else "dpo"), told


def _counts(shop: Workshop) -> Iterator[dict[str, Any]]:
    for stage, entry in shop.workspace.manifest().items():
        if stage != "evaluation":
            dropped = ", ".join(f"{n} {why}" for why, n in entry["dropped"].items())
            yield {"stage": stage, "kept": entry["kept"], "dropped": dropped}


def _measured(shop: Workshop) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """(evaluation.json, reports/evaluation.json), each only if it measured this adapter."""
    adapter = shop.workspace.digest("adapter")
    entry = shop.workspace.manifest().get("evaluation", {"inputs": {}})
    quick = full = None
    if entry["inputs"].get("adapter") == adapter:
        quick = _read(shop.workspace.path("evaluation.json"))
    found = _read(shop.workspace.path("reports/evaluation.json"))
    if found and found["made"]["adapter (SHA-256)"] == adapter:
        full = found
    return quick, full


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


def _no_export(directory: Path) -> str | None:
    """What tells that a directory is no earlier export; None if all in it belongs to one."""
    found = {path.name: path for path in directory.iterdir()}
    if lacking := _ALWAYS - found.keys():
        return f"no {min(lacking)}"
    others = found.keys() - _ALWAYS - _VOCABULARY
    strange = [n for n in others if found[n].suffix not in _WEIGHTS_AND_SETTINGS]
    return min(strange + [n for n, path in found.items() if not path.is_file()], default=None)


@contextmanager
def _new_directory(target: Path, *, force: bool) -> Iterator[Path]:
    """A fresh directory beside the target, which it becomes when the block ends well.

    Raises:
        ConfigError: something is there, and `force` is not given or it is no earlier export.
    """
    target = target.absolute()
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise ConfigError(f"{target} is no directory", "choose another --to")
    if target.exists() and any(target.iterdir()):
        if other := _no_export(target):
            raise ConfigError(
                f"{target} holds something else than an export ({other})", "choose another --to"
            )
        if not force:
            raise ConfigError(f"{target} is there already", "add --force, or choose another --to")
    partial = target.with_name(f".{target.name}.tmp-{os.getpid()}")
    try:
        partial.mkdir(parents=True)
        yield partial
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
    except OSError as error:
        raise ApcError(
            f"cannot write {target}: {error.strerror or error}", "choose another --to"
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
