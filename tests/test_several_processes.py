"""`apc train --num-gpus 2`, here with two processes on the CPU."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

TWICE = ["--set", "dpo.batch_size=2", "--set", "warm_up.batch_size=4", "--set", "dpo.epochs=3"]
TWICE += ["--set", "policy.batch_size=4"]  # batches of one query, shared out
TWICE += ["--set", "device=cpu"]
ARGUMENTS = ["train", "--character", "Mara", "--profile", "offline", *TWICE]
REPLIES = "workspace/Mara/replies.jsonl"
WEIGHTS = "workspace/Mara/adapter/adapter_model.safetensors"


@pytest.mark.parametrize("sharding", ["none", "full"])
def test_two_processes_train_the_adapter_that_one_trains(trained, apc, apc_process, sharding):
    code, _, err = apc(*ARGUMENTS)
    assert code == 0, err
    pairs = (trained / "workspace/Mara/pairs.jsonl").read_text().count("\n")
    assert pairs and pairs % 2 == 0, "an odd number would be filled up"
    expected, replies = load_file(trained / WEIGHTS), (trained / REPLIES).read_text()
    shutil.rmtree(trained / "workspace/Mara/adapter")
    (trained / REPLIES).unlink()
    process = apc_process(*ARGUMENTS, "--set", f"policy.sharding={sharding}", "--num-gpus", "2")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert [line.count("DPO: 12 steps") for line in err.splitlines()].count(1) == 1, err
    assert (trained / REPLIES).read_text() == replies
    assert not list((trained / REPLIES).parent.glob("*partial*"))
    found = load_file(trained / WEIGHTS)
    assert found.keys() == expected.keys()
    for name, weight in found.items():
        torch.testing.assert_close(weight, expected[name], atol=1e-5, rtol=1e-3)


def test_processes_of_accelerate_launch_train_together(trained):
    launched = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
    done = subprocess.run(
        [*launched, "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no",
         "--main_process_port", "0", "--module", "apc_cli.cli", *ARGUMENTS],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(" steps in ") == 2, "warm-up and DPO, told by one process"
    assert (trained / WEIGHTS).exists()


def test_two_processes_learn_by_grpo(trained, apc_process):
    settings = {"queries_per_step": 2, "samples_per_query": 2, "epochs": 2, "max_queries": 4}
    changed = [part for key, value in settings.items() for part in ("--set", f"grpo.{key}={value}")]
    kept = (trained / WEIGHTS).read_bytes()
    process = apc_process(*ARGUMENTS, *changed, "--algorithm", "grpo", "--num-gpus", "2")
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert [line.count("GRPO: 4 steps") for line in err.splitlines()].count(1) == 1, err
    assert err.count("mean reward of the first") == 1
    assert (trained / WEIGHTS).read_bytes() != kept
    assert not list((trained / "workspace/Mara/checkpoints").glob("grpo-*"))


def test_a_process_that_dies_ends_the_run_in_one_line(trained, apc_process):
    log, until = trained / "stderr.txt", time.monotonic() + 200
    with log.open("w") as file:
        command = [*ARGUMENTS, "--set", "dpo.epochs=3000", "--num-gpus", "2"]
        process = apc_process(*command, stderr=file)
    while "DPO (" not in log.read_text() and time.monotonic() < until:
        time.sleep(0.2)
    os.kill(_ranks(process.pid)[1], signal.SIGKILL)
    assert process.wait(timeout=60) == 1
    said = log.read_text()
    last = said.strip().splitlines()[-1]
    assert last.startswith("error: training process failed: process 1 terminated with signal SIGK")
    assert said.count("error:") == 1 and "Traceback" not in said
    assert not _ranks(process.pid)


@pytest.mark.parametrize("to_all", [False, True])
def test_a_terminated_run_says_so_once(trained, apc_process, to_all):
    log, until = trained / "stderr.txt", time.monotonic() + 200
    with log.open("w") as file:
        command = [*ARGUMENTS, "--set", "dpo.epochs=3000", "--num-gpus", "2"]
        process = apc_process(*command, stderr=file, start_new_session=True)
    while "SFT" not in log.read_text() and time.monotonic() < until:
        time.sleep(0.2)
    (os.killpg if to_all else os.kill)(process.pid, signal.SIGTERM)
    assert process.wait(timeout=60) == 143
    said = log.read_text()
    assert said.splitlines()[-1] == "terminated; what was finished is kept"
    assert said.count("terminated") == 1 and "Traceback" not in said
    assert not _ranks(process.pid)


def test_a_run_that_is_terminated_as_it_ends_has_its_own_code():
    code = (
        "import os, signal, sys, weakref\nfrom apc_cli.cli import main\n"
        "last = weakref.finalize(main, os.kill, os.getpid(), signal.SIGTERM)\n"
        "sys.argv = ['apc', '--set']\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr


def test_gpus_that_are_not_there_are_told_at_once(project, apc):
    there = torch.cuda.device_count()
    wanted = max(2, there + 1)
    fitting = ("--set", f"dpo.batch_size={wanted}", "--set", f"warm_up.batch_size={wanted}")
    command = ["train", "--character", "Mara", "--profile", "offline", *fitting]
    code, out, err = apc(*command, "--num-gpus", str(wanted))
    assert code == 2 and not out and not (project / "workspace").exists()
    assert err.startswith(f"error: --num-gpus {wanted}: this machine has {there} — ")
    assert err.count("\n") == 1 and "device: cpu" in err


def test_what_cannot_be_divided_is_told_at_once(project, apc):
    code, _, err = apc(*ARGUMENTS, "--num-gpus", "3")
    assert code == 2 and "a batch of 2 cannot be divided among 3 GPUs" in err
    code, _, err = apc(*ARGUMENTS, "--num-gpus", "3", "--algorithm", "grpo")
    assert code == 2 and "a batch of 32 cannot be divided among 3 GPUs" in err
    assert "grpo.queries_per_step × grpo.samples_per_query" in err


def test_what_a_shared_out_model_cannot_is_told_at_once(project, apc):
    shared_out = ["--set", "policy.sharding=full"]
    code, _, err = apc(*ARGUMENTS, *shared_out)
    assert code == 2 and "warm-up needs several processes" in err and "--num-gpus 2" in err
    code, _, err = apc(*ARGUMENTS, *shared_out, "--algorithm", "grpo", "--num-gpus", "2")
    assert code == 2 and "GRPO samples while it trains" in err
    code, _, err = apc(*ARGUMENTS, *shared_out, "--set", "policy.quantization=nf4")
    assert code == 2 and "sharding: full goes with quantization: none" in err


def _ranks(parent: int) -> list[int]:
    """The processes of a run in the order of their ranks."""
    path = Path(f"/proc/{parent}/task/{parent}/children")
    children = path.read_text().split() if path.exists() else []
    return [int(c) for c in children if b"spawn_main" in Path(f"/proc/{c}/cmdline").read_bytes()]


if not Path("/proc/self/task").exists():
    pytest.skip("needs /proc", allow_module_level=True)
