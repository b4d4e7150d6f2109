"""Where a character's settings come from: defaults < profile < character file < --set."""

import json
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from apc_cli.config.character import Character
from apc_cli.errors import ConfigError
from apc_cli.files.yaml_files import flatten, merge, parse_setting, read_mapping

_ALTERNATIVE = ("constrained-", "literal[")
"""How pydantic begins the name of one of several types that a value may have."""


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
    if problem["type"] == "value_error":
        return f"{key}: {problem['msg'].removeprefix('Value error, ')}"
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
    folder = Path(__file__).parent.parent / "profiles"
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in known:
        raise ConfigError(f"profile '{name}' is unknown", f"known: {', '.join(known)}")
    return read_mapping(folder / f"{name}.yaml")
