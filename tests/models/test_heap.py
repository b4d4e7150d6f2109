"""Memory that tensors on a CPU give back and take again."""

import ctypes
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, torch
from apc_cli.models.heap import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
def work():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.empty(48 * 2**20, dtype=torch.uint8).zero_()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
work()
print(work())
"""


def faults(which):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, which], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="needs glibc")
def test_a_large_block_costs_no_page_faults_when_it_is_taken_again():
    assert faults("kept") * 10 < faults("given back")
