"""YAML that means what it looks like: no aliases or double keys, `no` a word, 1e-5 a number."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from apc_cli.errors import ConfigError


class _PlainLoader(yaml.SafeLoader):
    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError(f"aliases are not allowed{event.start_mark}")
        if getattr(event, "tag", None):
            raise yaml.YAMLError(f"tags are not allowed{event.start_mark}")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.YAMLError(f"key {key!r} is there twice{node.start_mark}")
        return super().construct_mapping(node, deep)


_PlainLoader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"(?:true|True|false|False)", "tTfF"),
    ("null", r"(?:~|null|Null|)", ["~", "n", "N", ""]),
    ("int", r"-?(?:0|[1-9][0-9]*)", "-0123456789"),
    (
        "float",
        r"-?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?",
        "-.0123456789",
    ),
):
    _PlainLoader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"^{_pattern}$"), list(_first)
    )


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        ConfigError: unreadable, not YAML, or not a mapping.
    """
    try:
        found = _load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist", "check the path given to --config") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 (byte {error.start})", "save it as UTF-8") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{path} must hold `key: value` lines")
    return found


def parse_setting(setting: str) -> dict[str, Any]:
    """The nested mapping of a `dotted.key=value`, where the value is a YAML scalar or list."""
    key, equals, value = setting.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {setting}: expected key=value", "e.g. --set dpo.epochs=3")
    try:
        nested: Any = _load(value)
    except yaml.YAMLError as error:
        problem = " ".join(str(error).split())
        raise ConfigError(f"--set {setting}: {problem}", "e.g. --set dpo.epochs=3") from None
    for part in reversed(key.strip().split(".")):
        nested = {part: nested}
    return dict(nested)


def merge(target: dict[str, Any], layer: dict[str, Any], *, empties: bool = False) -> None:
    """Lays a nested mapping over another: values replace values, mappings are merged.

    An empty mapping changes nothing as a section, and empties the mapping that it meets within one.
    """
    for key, value in layer.items():
        merged = isinstance(value, dict) and (value or not empties)
        if merged and isinstance(target.get(key), dict):
            merge(target[key], value, empties=True)
        else:
            target[key] = value


def flatten(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of everything in a nested mapping."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _load(text: str) -> Any:
    try:
        return yaml.load(text, Loader=_PlainLoader)  # noqa: S506 - a SafeLoader
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply") from None
    except ValueError:
        raise yaml.YAMLError("a number has too many digits") from None
