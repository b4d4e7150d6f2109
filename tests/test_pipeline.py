"""The whole pipeline on tiny real models: artifacts, freshness, and what a kill leaves behind."""

import json
import os
import random
import shutil
import signal
import time

import pytest

from apc_cli.workspace import digest

OFFLINE = ("--character", "Mara", "--profile", "offline")
ARTIFACTS = (
    "statements.jsonl",
    "queries.jsonl",
    "experience.jsonl",
    "warm_up",
    "replies.jsonl",
    "pairs.jsonl",
    "adapter",
    "evaluation.json",
)


def digests(project):
    return {name: digest(project / "workspace" / "Mara" / name) for name in ARTIFACTS}


def rows(project, name):
    path = project / "workspace" / "Mara" / name
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_train_writes_every_artifact(trained):
    assert None not in digests(trained).values()
    statements = [row["statement"] for row in rows(trained, "statements.jsonl")]
    assert len(statements) >= 5 and all("Mara" in statement for statement in statements)
    assert {row["statement"] for row in rows(trained, "queries.jsonl")} == set(statements)
    for pair in rows(trained, "pairs.jsonl"):
        assert [message["role"] for message in pair["prompt"]] == ["system", "user"]
        assert pair["chosen"][0]["role"] == pair["rejected"][0]["role"] == "assistant"
        assert pair["score_chosen"] > pair["score_rejected"]
    report = json.loads((trained / "workspace/Mara/evaluation.json").read_text())
    assert {"base", "before", "after", "gain", "evaluator", "queries"} <= report.keys()
    low, high = report["gain"]["ci95"]
    assert low <= report["gain"]["delta"] <= high
    delta = report["after"]["delta"] - report["before"]["delta"]
    assert report["gain"]["delta"] == pytest.approx(delta, abs=1e-3)
    assert not list((trained / "workspace/Mara").rglob("checkpoint-*")), "left behind"
    manifest = json.loads((trained / "workspace/Mara/manifest.json").read_text())
    assert manifest["dpo"]["outputs"]["adapter"] == digests(trained)["adapter"]


def test_dpo_queries_are_not_evaluated(trained):
    asked = {row["query"] for row in rows(trained, "replies.jsonl")}
    report = json.loads((trained / "workspace/Mara/evaluation.json").read_text())
    assert asked and not asked & {sample["query"] for sample in report["samples"]}


def test_second_run_does_nothing(trained, apc):
    before = digests(trained)
    code, _, err = apc("train", *OFFLINE)
    assert code == 0 and "nothing to do" in err
    assert digests(trained) == before


def test_dry_run_names_what_is_stale_and_why(trained, apc):
    wiki = trained / "wiki" / "Mara_wiki.txt"
    wiki.write_text(wiki.read_text() + "\nMara collects stamps.\n")
    before = digests(trained)
    _, _, err = apc("train", *OFFLINE, "--dry-run")
    assert "statements: " in err and "Mara_wiki.txt changed" in err
    _, _, err = apc("train", *OFFLINE, "--dry-run", "--set", "dpo.beta=0.2")
    assert "will run dpo" in err and "dpo.beta changed" in err
    assert digests(trained) == before


def test_a_setting_redoes_only_what_depends_on_it(trained, apc):
    before = digests(trained)
    code, _, err = apc("train", *OFFLINE, "--set", "dpo.beta=0.3", "--set", "dpo.epochs=2")
    after = digests(trained)
    assert code == 0, err
    changed = {name for name in ARTIFACTS if before[name] != after[name]}
    assert "adapter" in changed and changed <= {"adapter", "evaluation.json"}


def test_an_input_that_is_no_longer_used_is_noticed(trained, apc):
    code, _, err = apc("train", *OFFLINE, "--set", "warm_up.epochs=0", "--dry-run")
    assert code == 0
    assert "will run build-dpo: warm_up is no longer used" in err


def planned_after_a_change(apc, file):
    """(exit code, what would run) while the file, which others share, is as if written anew."""
    known = file.stat()
    os.utime(file, ns=(known.st_atime_ns, known.st_mtime_ns + 1_000))
    try:
        code, _, err = apc("train", *OFFLINE, "--dry-run")
    finally:
        os.utime(file, ns=(known.st_atime_ns, known.st_mtime_ns))
    lines = [line for line in err.splitlines() if line.startswith("will run ")]
    return code, lines


@pytest.mark.parametrize(
    ("judge", "stale"),
    [
        ("evaluator/nli", ["evaluation"]),
        ("reward/relevance", ["experience", "warm-up", "build-dpo", "evaluation"]),
    ],
)
def test_a_local_judge_that_changed_is_noticed(trained, apc, models, judge, stale):
    file = models / judge / "judge.json"
    code, lines = planned_after_a_change(apc, file)
    assert code == 0 and [line.split()[2].rstrip(":") for line in lines] == stale
    assert all(f"directory {file.parent} changed" in line for line in lines)
    assert "nothing to do" in apc("train", *OFFLINE, "--dry-run")[2]


EMBEDDER = ("--set", "policy.retriever=embedding", "--set", "policy.embedder=./encoder")


def test_a_local_model_that_changed_is_noticed(trained, apc, models):
    """The role-play model here is also the base of the judges, which are LoRA adapters."""
    file = models / "chat" / "tokenizer.json"
    code, lines = planned_after_a_change(apc, file)
    stale = ["experience", "warm-up", "build-dpo", "dpo", "evaluation"]
    assert code == 0 and [line.split()[2].rstrip(":") for line in lines] == stale
    assert all(f"directory {file.parent} changed" in line for line in lines)
    shutil.copytree(models / "encoder", trained / "encoder")
    code, _, err = apc("statements", *OFFLINE, *EMBEDDER)
    assert code == 0 and "nothing to do" in err
    lines = apc("train", *OFFLINE, *EMBEDDER, "--dry-run")[2].splitlines()
    seen = [line.split()[2].rstrip(":") for line in lines if "directory ./encoder changed" in line]
    assert seen == ["experience", "warm-up", "build-dpo", "evaluation"]


def test_a_directory_without_a_model_stops_a_run_before_it_begins(trained, apc):
    (trained / "empty").mkdir()
    for setting in ("policy.model", "policy.embedder", "discriminators.nli"):
        chosen = ("--set", "policy.retriever=embedding", "--set", f"{setting}=./empty")
        code, _, err = apc("build-dpo", *OFFLINE, *chosen, "--set", "dpo.beta=0.3")
        assert code == 2 and "error: ./empty holds no model" in err and "Sampling" not in err
    code, _, err = apc("evaluate", *OFFLINE, "--set", "evaluator.nli=./nowhere")
    assert code == 2 and "model directory ./nowhere does not exist" in err


def test_white_space_in_the_wiki_redoes_one_stage(trained, apc):
    wiki = trained / "wiki" / "Mara_wiki.txt"
    wiki.write_text(wiki.read_text() + "\n\n")
    code, _, err = apc("train", *OFFLINE)
    assert code == 0
    assert "\nstatements: " in err and "\nqueries: " not in err and "may run queries" in err


def test_an_artifact_edited_by_hand_is_not_used(trained, apc):
    path = trained / "workspace" / "Mara" / "statements.jsonl"
    path.write_text(path.read_text() + '{"statement": "Mara flies.", "source": ""}\n')
    code, _, err = apc("train", *OFFLINE)
    assert code == 65 and "changed by hand" in err and "persona.statements" in err


def test_a_deleted_artifact_is_built_again_the_same(trained, apc):
    before = digests(trained)
    (trained / "workspace" / "Mara" / "queries.jsonl").unlink()
    code, _, err = apc("queries", *OFFLINE)
    assert code == 0, err
    assert digests(trained) == before


def test_own_discriminators_are_trained_and_used(project, apc, models):
    own = [
        *("--set", "discriminators.source=train", "--set", "discriminators.test_share=0.4"),
        *("--set", f"discriminators.base_relevance={models / 'encoder'}"),
        *("--set", f"discriminators.base_nli={models / 'encoder'}"),
        *("--set", "warm_up.epochs=0"),
    ]
    code, _, err = apc("train-discriminators", *OFFLINE, *own)
    assert code == 0, err
    for shown in ("macro-F1", "nli, trained", "nli, word overlap", "labelled (down)"):
        assert shown in err
    assert "no better than word overlap" in err, "a random encoder beats no baseline"
    assert "no labelled data of other characters" in err and "sure of" in err
    stored = json.loads((project / "workspace/Mara/discriminators.json").read_text())
    held_out = stored["nli"]["held out"]
    assert f"{held_out['accuracy']:.3f}" in err and stored["nli"]["baselines"]["word overlap"]
    code, _, again = apc("train-discriminators", *OFFLINE, *own)
    assert code == 0 and "nothing to do" in again
    shown = "Labelled data"
    tables, as_before = (text[text.index(shown) : text.rindex("sure of")] for text in (err, again))
    assert tables == as_before, "what was measured is shown again"
    code, _, err = apc("build-dpo", *OFFLINE, *own)
    assert code == 0, err
    folder = project / "workspace" / "Mara"
    assert (folder / "discriminators/nli/judge.json").is_file()
    manifest = json.loads((folder / "manifest.json").read_text())
    assert "discriminators" in manifest["build-dpo"]["inputs"]
    shutil.copytree(folder, project / "workspace" / "Nora")
    nora = json.loads((project / "workspace/Nora/manifest.json").read_text())
    nora["label-data"]["config"]["character"] = "Nora"
    (project / "workspace/Nora/manifest.json").write_text(json.dumps(nora))
    code, _, err = apc("train-discriminators", *OFFLINE, *own, "--force")
    assert code == 0 and "other characters" in err, err
    assert "nli on others: labelled (down)" in err
    assert "warning: on other characters the nli discriminator is no better than word" in err


def test_a_second_process_is_told_who_works(project, apc):
    from pathlib import Path

    from apc_cli.workspace import Workspace

    with Workspace(Path("workspace"), "Mara").lock():
        code, _, err = apc("statements", *OFFLINE)
    assert code == 75 and "in use by process" in err


KILL_AFTER = (
    "queries.jsonl",
    "checkpoints/warm-up-*/checkpoint-*",
    "replies.partial.jsonl",
    "checkpoints/dpo-*/checkpoint-*",
    "adapter",
)


def wait_for(process, folder, pattern):
    """Until something of that name is there, or the process has ended by itself."""
    while process.poll() is None and not list(folder.glob(pattern)):
        time.sleep(0.02)


def test_kill_at_any_time_then_the_same_command(trained, apc_process, project):
    """SIGKILL soon after each of these appears: the end is that of one uninterrupted run."""
    expected = digests(trained)
    folder = project / "workspace" / "Mara"
    shutil.rmtree(project / "workspace")
    draw = random.Random(1)
    kills = 0
    for pattern in KILL_AFTER:
        process = apc_process("train", *OFFLINE)
        wait_for(process, folder, pattern)
        time.sleep(draw.uniform(0, 0.3))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
    process = apc_process("train", *OFFLINE)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert kills >= 3
    assert digests(project) == expected


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupt_and_termination_have_their_own_codes(apc_process, project, number, code):
    process = apc_process("train", *OFFLINE)
    wait_for(process, project / "workspace" / "Mara", "experience.jsonl")
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in err


def test_two_rounds_train_the_adapter_of_the_first_on_other_queries(project, apc):
    two = ("--set", "dpo.rounds=2", "--set", "dpo.max_queries=3", "--set", "warm_up.epochs=0",
           "--set", "dpo.held_out_share=0.3")  # fmt: skip
    code, _, err = apc("train", *OFFLINE, *two)
    assert code == 0, err
    assert err.count("held-out accuracy: {'1.0': ") == 2 and "Preference pairs (build-dpo)" in err
    folder = project / "workspace" / "Mara"
    first = [json.loads(x) for x in (folder / "rounds/1/replies.jsonl").read_text().splitlines()]
    last = rows(project, "replies.jsonl")
    assert {row["query"] for row in first} != {row["query"] for row in last}
    manifest = json.loads((folder / "manifest.json").read_text())
    assert "rounds/1/adapter" in manifest["build-dpo"]["inputs"].keys() & manifest["dpo"]["inputs"]
    assert digest(folder / "rounds/1/adapter") not in (None, digest(folder / "adapter"))
    code, _, err = apc("train", *OFFLINE, *two)
    assert code == 0 and "nothing to do" in err
    code, _, err = apc("train", *OFFLINE, *two, "--force", "--dry-run")
    assert "will run dpo-round-1: " in err and "will run dpo: " in err
    assert "(round 2)" in (folder / "adapter/README.md").read_text()
    code, _, err = apc("train", *OFFLINE, *two[2:], "--dry-run")
    assert "rounds/1/adapter is no longer used" in err and "dpo-round-1" not in err


def test_grpo_takes_the_place_of_dpo_and_back(trained, apc):
    small = (
        "--set", "grpo.queries_per_step=2", "--set", "grpo.samples_per_query=2",
        "--set", "grpo.max_queries=4", "--set", "grpo.epochs=1", "--set", "grpo.learning_rate=0.01",
    )  # fmt: skip
    before = digests(trained)
    code, _, err = apc("train", *OFFLINE, "--algorithm", "grpo", *small)
    assert code == 0, err
    assert "after GRPO" in err and "ΔAPC gain by GRPO" in err and "mean reward" in err
    after = digests(trained)
    assert after["warm_up"] == before["warm_up"] and after["adapter"] != before["adapter"]
    manifest = json.loads((trained / "workspace/Mara/manifest.json").read_text())
    assert manifest["grpo"]["outputs"]["adapter"] == after["adapter"] and "dpo" not in manifest
    code, _, err = apc("evaluate", *OFFLINE, "--methods", "rag", "--samples", "1",
                       "--queries", "held-out", "--set", "algorithm=grpo", *small)  # fmt: skip
    assert code == 0 and "dpo" not in err and "rag + SFT + GRPO" in err, err
    code, _, err = apc("train", *OFFLINE)
    assert code == 0, err
    assert digests(trained) == before
    code, _, err = apc("train", *OFFLINE, "--algorithm", "ppo")
    assert code == 2 and "algorithm" in err
