"""One real run with the packaged models, at reduced size, and what the README promises of them."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from apc_cli.records import NLI_LABELS, RELEVANCE_LABELS, SURE_FROM

ROOT = Path(__file__).parent.parent
SMALL = {
    "dpo.max_queries": 4,
    "dpo.samples_per_query": 4,
    "dpo.min_gap": 0.01,
    "dpo.max_length_ratio": 4,
    "dpo.epochs": 1,
    "dpo.lora_rank": 8,
    "dpo.lora_alpha": 16,
    "warm_up.epochs": 0.5,
    "policy.max_new_tokens": 24,
    "evaluation.samples_per_query": 1,
    "evaluation.held_out_queries": 2,
    "evaluation.resamples": 500,
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A workspace after `apc train --character Alice --profile offline` at reduced size."""
    folder = tmp_path_factory.mktemp("packaged")
    shutil.copytree(ROOT / "wiki", folder / "wiki")
    shutil.copytree(ROOT / "configs", folder / "configs")
    settings = [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]
    done = apc(folder, "train", "--character", "alice", "--profile", "offline", *settings)
    assert done.returncode == 0, done.stderr
    return folder, done.stderr


def apc(folder, *arguments, text=None):
    command = [sys.executable, "-m", "apc_cli.cli", *arguments]
    return subprocess.run(command, cwd=folder, input=text, capture_output=True, text=True)


def test_alice_is_trained_and_measured(trained):
    folder, shown = trained
    report = json.loads((folder / "workspace/Alice/evaluation.json").read_text())
    assert report["queries"] == 12
    assert report["evaluator"]["nli"] == "judge:evaluator/nli"
    assert "warning" not in report["evaluator"]
    for system in ("base", "before", "after"):
        assert 0.5 < report[system]["nll_per_token"] < 5
        assert report[system]["words"] > 3
    assert "ΔAPC gain by DPO" in shown
    replies = {name: [s[name] for s in report["samples"]] for name in ("before", "after")}
    assert replies["before"] != replies["after"], "training changed nothing that anyone could see"


def test_plain_peft_loads_the_adapter(trained):
    from peft import AutoPeftModelForCausalLM

    folder, _ = trained
    model = AutoPeftModelForCausalLM.from_pretrained(folder / "workspace/Alice/adapter")
    assert model.peft_config["default"].r == SMALL["dpo.lora_rank"]


def test_chat_answers_and_explains(trained):
    folder, _ = trained
    asked = "What do you do for a living?\n/why\n"
    done = apc(folder, "chat", "-c", "Alice", "--profile", "offline", text=asked)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Alice: ") and len(done.stdout.split()) > 3
    assert "shown to the model" in done.stderr and "ΔAPC" in done.stderr
    [transcript] = (folder / "workspace/Alice/chats").glob("*.jsonl")
    assert [json.loads(line)["role"] for line in transcript.open()] == ["user", "assistant"]


def test_the_readme_s_scoring_line_works(tmp_path):
    block = re.search(r"```bash\n(echo '\{.*?--explain)\n", (ROOT / "README.md").read_text(), re.S)
    command = block[1].replace("apc score", f"{sys.executable} -m apc_cli.cli score")
    done = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)
    assert row["apc"]["statements"] == 2 and len(row["constraints"]) == 2
    assert 1.5 < row["apc"]["score"] <= 2 and not any(c["violation"] for c in row["constraints"])
    assert "warning" not in done.stderr


def test_the_readme_s_python_lines_work():
    block = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    names = {}
    exec(block[1], names)
    [constraint] = names["score"].constraints
    assert constraint.statement == "Mara lives in Lund." and 0 < names["score"].apc <= 1


def test_other_programs_find_a_discriminator():
    from apc_cli.models.discriminator import Discriminator
    from apc_cli.models.judging import discriminator

    assert Discriminator is discriminator.Discriminator


def test_lint_finds_planted_duplicates_and_contradictions(tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "Mara.yaml").write_text(
        "character: Mara\npersona: {statements: mine.txt}\n"
    )
    planted = ["Mara is forty years old.", "Mara is thirty-two years old.", "Mara speaks Danish."]
    again = ["Mara sings in a choir on Fridays.", "Every Friday Mara sings with a choir."]
    (tmp_path / "mine.txt").write_text("\n".join(planted + again) + "\n")
    done = apc(tmp_path, "lint", "--character", "Mara", "--profile", "offline")
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    pairs = [(finding["problem"], finding["statements"]) for finding in found]
    assert pairs == [("contradiction", [1, 2]), ("duplicate", [4, 5])]


@pytest.mark.parametrize("pair", ["reward", "evaluator"])
def test_shipped_judges_know_the_obvious(pair):
    from apc_cli.models.judging.scorer import Scorer

    scorer = Scorer.load(relevance=f"judge:{pair}/relevance", nli=f"judge:{pair}/nli")
    statements = ["Ida Brandt is a baker in Lund.", "Ida Brandt is afraid of dogs."]
    good, vague, wrong = scorer.score(
        "Ida Brandt",
        statements,
        "What do you do for a living?",
        ["I'm a baker, here in Lund.", "Oh, this and that.", "I am a dentist in Lund."],
    )
    assert good.constraints[0].relevance > 0.5 > good.constraints[1].relevance
    assert good.apc > vague.apc and good.apc > wrong.apc
    assert good.constraints[0].entailed > wrong.constraints[0].entailed
    assert wrong.constraints[0].contradicted > wrong.constraints[0].entailed


@pytest.mark.parametrize("pair", ["reward", "evaluator"])
@pytest.mark.parametrize(("kind", "labels"), [("relevance", RELEVANCE_LABELS), ("nli", NLI_LABELS)])
def test_shipped_judges_read_english_only_and_are_small(pair, kind, labels):
    folder = ROOT / "apc_cli/judges" / pair / kind
    described = json.loads((folder / "judge.json").read_text())
    assert tuple(described["labels"]) == labels and described["languages"] == ["en"]
    assert SURE_FROM != described["sure_from"] > 0.5, "fitted to held-out personas"


def test_the_shipped_judges_are_small_together():
    files = [f for f in (ROOT / "apc_cli/judges").rglob("*") if f.is_file()]
    assert sum(f.stat().st_size for f in files) < 24e6
