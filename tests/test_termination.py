"""A signal ends the command line whatever the libraries in between make of it."""

import subprocess
import sys

import pytest

SCRIPT = """
import os, signal, sys, threading, time
from apc_cli.cli import app, main

def come(number):
    os.kill(os.getpid(), number)
    time.sleep(60)

def swallowed():
    try:
        come(signal.SIGTERM)
    except:
        pass
    time.sleep(60)

def wrapped(number):
    class Part:
        def __set_name__(self, owner, name):
            come(number)
    class Whole:
        part = Part()

class Gone:
    def __del__(self):
        come(signal.SIGTERM)

def ignored():
    Gone()
    time.sleep(60)

def waited_for():
    threading.Thread(target=time.sleep, args=(60,)).start()
    come(signal.SIGTERM)

def replaced():
    try:
        come(signal.SIGTERM)
    except BaseException:
        failed = True
    raise OSError(5, "no longer there")

@app.command()
def stand(): {}

sys.argv = ["apc", "stand"]
main()
"""

TERMINATED, INTERRUPTED = (143, "terminated"), (130, "interrupted")


@pytest.mark.parametrize(
    "where, code, word",
    [
        ("come(signal.SIGTERM)", *TERMINATED),
        ("come(signal.SIGINT)", *INTERRUPTED),
        ("swallowed()", *TERMINATED),
        ("wrapped(signal.SIGTERM)", *TERMINATED),
        ("wrapped(signal.SIGINT)", *INTERRUPTED),
        ("ignored()", *TERMINATED),
        ("replaced()", *TERMINATED),
        ("waited_for()", *TERMINATED),
    ],
)
def test_a_signal_has_its_code_and_its_line(where, code, word):
    command = [sys.executable, "-c", SCRIPT.format(where)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=40)
    assert done.returncode == code
    assert done.stderr == f"{word}; what was finished is kept\n" and not done.stdout


def test_an_error_that_no_signal_caused_is_told_as_before():
    command = [sys.executable, "-c", SCRIPT.format("raise OSError(5, 'no longer there')")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=40)
    assert done.returncode == 1 and done.stderr.startswith("error: no longer there")
