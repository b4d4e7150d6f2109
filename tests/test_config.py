"""Where each value comes from, and YAML that means what it looks like."""

import time
import unicodedata

import pytest

from apc_cli.config import Character, load_config
from apc_cli.errors import ConfigError
from apc_cli.files.yaml_files import parse_setting, read_mapping


@pytest.fixture
def folder(tmp_path):
    for name in ("configs", "wiki"):
        (tmp_path / name).mkdir()
    return tmp_path


def load(folder, text="", *settings, profile="gpu", name="Mara"):
    (folder / "configs" / f"{name}.yaml").write_text(f"character: {name}\n{text}", "utf-8")
    return load_config(name, profile=profile, settings=settings, folder=folder)


def refusal(folder, text="", *settings, **options):
    with pytest.raises(ConfigError) as caught:
        load(folder, text, *settings, **options)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_defaults_are_the_papers():
    made = Character(character="x")
    assert (made.dpo.max_queries, made.dpo.samples_per_query, made.dpo.min_gap) == (100, 2, 0.2)
    assert (made.dpo.beta, made.dpo.epochs, made.dpo.learning_rate) == (0.1, 10, 2e-4)
    assert (made.dpo.lora_rank, made.dpo.lora_alpha) == (128, 8)
    judges = made.discriminators
    assert (judges.relevance_epochs, judges.nli_epochs, judges.learning_rate) == (5, 10, 1e-5)
    assert judges.relevance == "KomeijiForce/deberta-v3-large-relevance-12character"
    assert judges.nli == "KomeijiForce/deberta-v3-large-nli-12character"
    assert judges.base_nli == judges.base_relevance == "microsoft/deberta-v3-large"
    policy = made.policy
    assert (policy.model, policy.method, policy.rag_top_k) == ("google/gemma-1.1-7b-it", "rag", 5)
    assert (policy.temperature, policy.top_p, policy.repetition_penalty) == (1, 1, 1)
    assert made.warm_up.epochs == 0 and made.teacher.queries_per_statement == 3


def test_each_layer_wins_over_the_one_before(folder):
    found = load(
        folder,
        "dpo:\n  epochs: 4\n  beta: 0.3\n",
        "dpo.beta=0.5",
        profile="offline",
    )
    offline = read_mapping(_profile_path("offline"))["dpo"]
    assert found.value("dpo.min_gap") == 0.2
    assert found.value("dpo.max_queries") == offline["max_queries"] != 100
    assert found.value("dpo.epochs") == 4 != offline["epochs"]
    assert found.value("dpo.beta") == 0.5
    origins = {key: origin for key, _, origin in found.rows()}
    assert origins["dpo.samples_per_query"] == "profile offline"
    assert origins["dpo.epochs"].endswith("configs/Mara.yaml")
    assert origins["dpo.beta"] == "--set dpo.beta=0.5"
    assert origins["evaluation.resamples"] == "default"
    assert load(folder, "", "seed=1", "seed=2").value("seed") == 2


def _profile_path(name):
    from pathlib import Path

    import apc_cli

    return Path(apc_cli.__file__).parent / "profiles" / f"{name}.yaml"


def test_yaml_reads_plain_words_and_numbers(folder):
    text = "teacher:\n  model: no\n  base_url: 1:30\ndpo:\n  learning_rate: 1e-5\n  beta: .5\n"
    found = load(folder, text, "policy.model=on", "persona.protective=[yes, 2020-01-01]")
    assert found.value("teacher.model") == "no" and found.value("teacher.base_url") == "1:30"
    assert found.value("dpo.learning_rate") == 0.00001 and found.value("dpo.beta") == 0.5
    assert found.value("policy.model") == "on"
    assert found.value("persona.protective") == ["yes", "2020-01-01"]
    assert parse_setting("a.b=-3") == {"a": {"b": -3}}
    assert parse_setting("a=x=y") == {"a": "x=y"}
    assert parse_setting("a=") == {"a": None}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seed: 1\nseed: 2", "there twice"),
        ("dpo: {beta: 1, beta: 1}", "there twice"),
        ("persona: {protective: &a [x]}\nteacher: {model: *a}", "aliases"),
        ("seed: !!python/object:os.system 1", "tags"),
        ("teacher: {model: !!timestamp 2001-01-01}", "tags"),
        ("seed: !!bool foo", "tags"),
        (f"seed: {'1' * 5000}", "too many digits"),
        (f"seed: {'[' * 5000}", "nested too deeply"),
        ("seed: [", "not valid YAML"),
        ("seed: 010", "seed: .*integer.*'010'"),
        ("seed: '7'", "seed: .*integer.*'7'"),
        ("seed: true", "seed: .*integer.*True"),
        ("seed: -1", "seed: .*greater than or equal to 0"),
        ("seed: 4294967296", "seed: .*less than"),
        ("dpo: {beta: 1e999}", "dpo.beta: .*finite"),
        ("dpo: {beta: '0.1'}", "dpo.beta: .*number"),
        ("dpo: {beta: 010}", "dpo.beta: .*number"),
        ("dpo: 3", "dpo: .*object, got 3"),
        ("dpo: {samples_per_query: 1}", "dpo.samples_per_query: .*2, got 1"),
        ("persona: {protective: one}", "persona.protective"),
        ("language: fr", "language: .*'en', 'ja' or 'zh', got 'fr'"),
        ("dpo: {bta: 1}", "unknown key dpo.bta .*Mara.yaml.*did you mean dpo.beta"),
        ("polcy: {method: rag}", "unknown key polcy.*did you mean policy"),
        ("<<: {seed: 1}", "unknown key <<"),
        ("1: 2", "unknown key 1"),
    ],
)
def test_what_is_wrong_is_named(folder, text, said):
    import re

    assert re.search(said, refusal(folder, text))


def test_a_mapping_is_emptied_and_a_section_is_not(folder):
    text = "persona:\n  weights: {Mara sings.: 0.5}\n  protective: [x]\ndpo: {}\n"
    assert load(folder, text).value("persona.weights") == {"Mara sings.": 0.5}
    assert load(folder, text, "persona.weights={}").value("persona.weights") == {}
    found = load(folder, text, "persona.weights={}", "persona.weights={Mara bakes.: 2}")
    assert found.value("persona.weights") == {"Mara bakes.": 2}
    assert load(folder, text, "persona={}").value("persona") == load(folder, text).value("persona")
    assert load(folder, text, profile="offline").value("dpo.rounds") == 2


def test_settings_that_do_not_go_together_are_named_without_a_dump(folder):
    said = refusal(folder, "", "dpo.label_smoothing=0.1")
    assert said == "dpo: label_smoothing goes with the losses robust, exo_pair"


def test_an_alias_bomb_is_refused_at_once(folder):
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10))
    begin = time.monotonic()
    assert "aliases" in refusal(folder, bomb)
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize("content", [b"", b"- a\n", b"text", b"a: \xff", b"a: \x00"])
def test_a_file_that_is_no_mapping(folder, content):
    (folder / "x.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match="x.yaml"):
        load_config(None, file=folder / "x.yaml", folder=folder)


def test_missing_character_key_shows_no_dump(folder):
    (folder / "x.yaml").write_text("seed: 1\n")
    with pytest.raises(ConfigError, match="^character is missing$"):
        load_config(None, file=folder / "x.yaml")


def test_character_is_found_in_any_case_and_any_accents(folder):
    assert load(folder).character.character == "Mara"
    assert load_config("mARA", folder=folder).character.character == "Mara"
    composed, split = (unicodedata.normalize(form, "Zoé") for form in ("NFC", "NFD"))
    assert composed != split
    (folder / "configs" / f"{split}.yaml").write_text(f"character: {composed}\n", "utf-8")
    assert load_config(composed.upper(), folder=folder).character.character == composed


def test_a_wiki_text_alone_is_enough(folder):
    (folder / "wiki" / "Old King_wiki.txt").write_text("He is old.")
    found = load_config("old king", folder=folder)
    assert found.character == Character(character="Old King")
    assert found.origins["character"] == "--character"


def test_a_config_file_wins_over_a_wiki_text(folder):
    (folder / "wiki" / "Mara_wiki.txt").write_text("She is old.")
    assert load(folder, "seed: 5").character.seed == 5


def test_an_unknown_character_is_told_what_to_write(folder):
    load(folder)
    with pytest.raises(ConfigError, match="'Marta' is unknown") as caught:
        load_config("Marta", folder=folder)
    assert "wiki/Marta_wiki.txt" in caught.value.hint and "Mara" in caught.value.hint
    with pytest.raises(ConfigError, match="no character given"):
        load_config(None, folder=folder)


@pytest.mark.parametrize("name", ["", "none", "../profiles/offline", "GPU"])
def test_only_the_known_profiles_can_be_named(folder, name):
    with pytest.raises(ConfigError, match="profile .* is unknown") as caught:
        load(folder, profile=name)
    assert caught.value.hint == "known: gpu, offline"


@pytest.mark.parametrize("setting", ["seed", "=1", " =1", "seed=[", "seed=!!x 1"])
def test_a_setting_that_cannot_be_read(folder, setting):
    assert f"--set {setting}" in refusal(folder, "", setting)


def test_the_number_of_replies_at_a_time_may_be_left_to_the_program(folder):
    def at_once(*settings):
        return load(folder, "", *settings).character.policy.replies_at_once

    assert at_once() is None
    assert at_once("policy.batch_size=auto") is None
    assert at_once("policy.batch_size=4") == 4
    for wrong in ("many", "0"):
        assert "policy.batch_size" in refusal(folder, "", f"policy.batch_size={wrong}")
