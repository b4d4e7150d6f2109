"""The files that come with the project can be used as they are."""

import tomllib
from pathlib import Path

import pytest

from apc_cli.config import load_config
from apc_cli.sentences import sentences
from apc_cli.steps.statements import read_paragraphs

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "apc_cli"
CHARACTERS = sorted((ROOT / "configs").glob("*.yaml"))
PROFILES = sorted((PACKAGE / "profiles").glob("*.yaml"))


def test_there_are_characters_and_profiles():
    assert len(CHARACTERS) >= 7
    assert {path.stem for path in PROFILES} >= {"gpu", "offline"}


@pytest.mark.parametrize("profile", PROFILES, ids=lambda path: path.stem)
@pytest.mark.parametrize("path", CHARACTERS, ids=lambda path: path.stem)
def test_each_character_loads_in_each_profile(path, profile):
    found = load_config(path.stem, profile=profile.stem, folder=ROOT)
    assert found.character.character == path.stem
    persona = found.character.persona
    source = persona.statements or persona.wiki or f"wiki/{path.stem}_wiki.txt"
    paragraphs = read_paragraphs(ROOT / source)
    assert len(paragraphs) > 0
    assert any(path.stem.split()[-1] in paragraph for paragraph in paragraphs)


@pytest.mark.parametrize(("name", "language"), [("古明地こいし", "ja"), ("沈青禾", "zh")])
def test_characters_of_other_languages_name_themselves_in_every_paragraph(name, language):
    found = load_config(name, folder=ROOT)
    assert found.value("language") == language
    for pair in ("discriminators", "evaluator"):
        assert "multilingual" in found.value(f"{pair}.nli")
    paragraphs = read_paragraphs(ROOT / "wiki" / f"{name}_wiki.txt")
    facts = [s for paragraph in paragraphs for s in sentences(paragraph, language)]
    assert len(facts) >= 12 and all(name in paragraph for paragraph in paragraphs)


def test_the_gpu_profile_is_the_paper():
    changed = {
        key for key, _, origin in load_config("Alice", folder=ROOT).rows() if "profile" in origin
    }
    assert changed == {"device"}


def test_the_offline_profile_needs_no_hub_and_no_key():
    found = load_config("Alice", profile="offline", folder=ROOT)
    assert found.value("teacher.backend") == "rules"
    models = [
        *(found.value(f"discriminators.{key}") for key in ("relevance", "nli")),
        *(found.value(f"discriminators.base_{key}") for key in ("relevance", "nli")),
        *(found.value(f"evaluator.{key}") for key in ("relevance", "nli")),
        found.value("policy.model"),
    ]
    assert all(model.startswith(("package:", "judge:")) for model in models)
    assert found.value("evaluator.nli") != found.value("discriminators.nli")


def test_every_data_file_is_packed():
    with (ROOT / "pyproject.toml").open("rb") as file:
        patterns = tomllib.load(file)["tool"]["setuptools"]["package-data"]["apc_cli"]
    packed = {path for pattern in patterns for path in PACKAGE.glob(pattern)}
    data = {
        path
        for path in PACKAGE.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc") and path.name != ".gitignore"
    }
    assert {"gpu.yaml", "role_play.yaml", "en.yaml"} <= {path.name for path in data}
    assert data - packed == set()


def test_every_folder_with_data_is_a_package_or_below_one():
    with (ROOT / "pyproject.toml").open("rb") as file:
        found = tomllib.load(file)["tool"]["setuptools"]["packages"]["find"]
    assert found["include"] == ["apc_cli*"]
    missing = {
        path.parent for path in PACKAGE.rglob("*.py") if not (path.parent / "__init__.py").exists()
    }
    assert missing == set()
