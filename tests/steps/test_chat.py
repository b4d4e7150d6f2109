"""`apc chat` on a pipe and on a terminal, and what a conversation keeps."""

import itertools
import json
import os
import pty
import re
import select
import signal
import subprocess
import time

import pytest
from fake_openai import FakeOpenAI

from apc_cli.errors import DataError
from apc_cli.models.judging.scorer import Scorer
from apc_cli.models.playing.role_player import RolePlayer, Sampling
from apc_cli.records import Statement
from apc_cli.steps.chat import Conversation
from apc_cli.workspace import Workspace

MARA = ("--character", "Mara", "--profile", "offline")
BASE = ("chat", *MARA, "--base")
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
STATEMENTS = ["Mara is a baker.", "Mara fears dogs.", "Mara \x1b]0;owned\x07 \u202e[red]sings[/x]."]


# The conversation


@pytest.fixture(scope="module")
def player(models):
    return RolePlayer.load(str(models / "chat"), device="cpu", dtype="float32")


def conversation(player, tmp_path, evaluator=None, **options):
    def compose(query, history):
        turn = {"role": "user", "content": query}
        return [{"role": "system", "content": "Facts."}, *history, turn]

    sampling = Sampling(max_new_tokens=6, seed=1)
    return Conversation(
        "Mara", STATEMENTS[:2], player, lambda query, history: [f"{len(history)}, {query}"],
        compose, evaluator, sampling, tmp_path / "chats" / "a.jsonl", **options,
    )  # fmt: skip


def say(made, query):
    return "".join(made.answer(query))


def transcript(tmp_path):
    lines = (tmp_path / "chats" / "a.jsonl").read_text("utf-8").split("\n")[:-1]
    return [json.loads(line) for line in lines]


def test_turns_are_kept_and_seeded(player, tmp_path):
    made = conversation(player, tmp_path)
    first, second = say(made, "hello"), say(made, "hello")
    assert [turn["role"] for turn in made.history] == ["user", "assistant"] * 2
    assert transcript(tmp_path) == list(made.history)
    assert made.history[1]["content"] == first.strip()
    again = conversation(player, tmp_path / "again")
    assert [say(again, "hello"), say(again, "hello")] == [first, second]
    made.reset()
    assert made.history == () and made.why() is None
    say(made, "more")
    assert len(transcript(tmp_path)) == 6


def test_old_turns_are_left_out_first(player, tmp_path):
    made = conversation(player, tmp_path)
    for number in range(4):
        made.history += (
            {"role": "user", "content": f"question {number}"},
            {"role": "assistant", "content": f"answer {number}"},
        )
    whole = made._prompt("last")
    assert len(whole) == 1 + 8 + 1
    made.max_prompt_tokens = player.count_tokens(whole) - 1
    assert made._prompt("last") == [whole[0], *whole[3:]]
    made.max_prompt_tokens = player.count_tokens([whole[0], *whole[7:]])
    assert made._prompt("last") == [whole[0], *whole[7:]]
    made.max_prompt_tokens = 1
    assert made._prompt("last") == [whole[0], whole[-1]]
    assert len(made.history) == 8


def test_a_query_that_never_fits_is_refused(player, tmp_path):
    made = conversation(player, tmp_path, max_prompt_tokens=100)
    with pytest.raises(DataError, match="longer than 100 tokens"):
        say(made, "word " * 200)
    assert made.history == () and not (tmp_path / "chats").exists()


def test_an_abandoned_answer_is_no_turn(player, tmp_path):
    made = conversation(player, tmp_path)
    answer = made.answer("hello")
    next(answer)
    answer.close()
    assert made.history == () and not (tmp_path / "chats").exists()


def test_why_is_of_the_last_turn(player, models, tmp_path):
    folder = models / "evaluator"
    scorer = Scorer.load(relevance=str(folder / "relevance"), nli=str(folder / "nli"), device="cpu")
    made = conversation(player, tmp_path, scorer)
    assert made.why() is None
    say(made, "hello")
    say(made, "and dogs?")
    shown, score = made.why()
    reply = made.history[-1]["content"]
    assert shown == ["2, and dogs?"]
    assert [score] == scorer.score("Mara", STATEMENTS[:2], "hello and dogs?", [reply])
    assert conversation(player, tmp_path).why() is None


# The command


@pytest.fixture
def ready(project):
    place = Workspace(project / "workspace", "Mara")
    place.create()
    place.write_rows("statements.jsonl", [Statement(text) for text in STATEMENTS])
    return place


def talk(apc_process, text, *options, **more):
    data = text if isinstance(text, bytes) else text.encode()
    process = apc_process(*BASE, *options, stdin=subprocess.PIPE, text=False, **more)
    out, err = process.communicate(data, timeout=120)
    return process.returncode, out.decode(), err.decode()


def turns(place):
    [path] = place.path("chats").iterdir()
    return [json.loads(line) for line in path.read_text("utf-8").split("\n")[:-1]]


def test_a_talk_with_all_commands(ready, apc_process):
    script = "/why\nhello there\n\n  \n/why\n/reset\n/why\n/help\n/x\x1b[2J\nand dogs?"
    code, out, err = talk(apc_process, script)
    assert code == 0 and "Traceback" not in err, err
    assert out.count("Mara: ") == 2 and out.startswith("Mara: ")
    assert err.count("nothing was said yet") == 2 and "starting over" in err
    assert "shown to the model:" in err and "ΔAPC" in err and "/quit" in err
    assert "/x\ufffd[2J is no command" in err
    assert "\ufffd]0;owned\ufffd \ufffd[red]sings[/x]." in err
    assert not UNSAFE.search(out + err)
    assert [turn["role"] for turn in turns(ready)] == ["user", "assistant"] * 2
    assert [turn["content"] for turn in turns(ready)][::2] == ["hello there", "and dogs?"]


def test_quit_ends_it_and_nothing_said_leaves_no_transcript(ready, apc_process):
    code, out, err = talk(apc_process, "/quit\nhello\n")
    assert (code, out) == (0, "") and "no command" not in err
    assert not ready.path("chats").exists()
    assert talk(apc_process, "")[:2] == (0, "")


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_what_is_no_utf_8_is_replaced_and_the_talk_goes_on(ready, apc_process, locale):
    environment = {**os.environ, "LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    code, _, err = talk(apc_process, b"\xff\xfehello\nsch\xc3\xb6n\n", env=environment)
    assert code == 0 and "Traceback" not in err, err
    assert [turn["content"] for turn in turns(ready)][::2] == ["\ufffd\ufffdhello", "schön"]


def test_a_megabyte_is_refused_and_the_talk_goes_on(ready, apc_process):
    code, _, err = talk(apc_process, "word " * 200_000 + "\nhello\n")
    assert code == 0 and "longer than 1016 tokens" in err
    assert [turn["content"] for turn in turns(ready)][::2] == ["hello"]


def test_a_judge_that_cannot_be_had_does_not_stop_the_talk(ready, apc_process, tmp_path):
    code, out, err = talk(
        apc_process, "hello\n/why\n", "--set", f"evaluator.nli={tmp_path / 'none'}"
    )
    assert code == 0 and "/why shows no score" in err and "shown to the model" in err


def test_an_llm_that_refuses_to_judge_does_not_end_the_talk(ready, apc_process):
    with FakeOpenAI(itertools.repeat("401")) as server:
        options = ["evaluator.backend=openai", f"teacher.base_url={server.url}", "teacher.model=m"]
        code, out, err = talk(
            apc_process, "hello\n/why\nhello again\n",
            *(part for option in options for part in ("--set", option)),
            env=os.environ | {"OPENAI_API_KEY": "sk-test"},
        )  # fmt: skip
    assert code == 0 and out.count("Mara: ") == 2, err
    assert "/why shows nothing now: " in err and "refused the key" in err


def test_what_is_missing_is_named(project, apc):
    code, _, err = apc(*BASE)
    assert code == 2 and "statements is not there yet" in err and "apc train" in err
    Workspace(project / "workspace", "Mara").create()
    (project / "workspace/Mara/statements.jsonl").write_text('{"statement": "a"}\n')
    code, _, err = apc("chat", *MARA)
    assert code == 2 and "the adapter is not there yet" in err and "--base" in err


def test_an_adapter_is_not_put_on_another_model(trained, apc_process, models):
    process = apc_process("chat", *MARA, "--set", f"policy.model={models / 'gemma'}")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2 and f"trained on {models / 'chat'}, policy.model is" in err


def wait_for(stream, text, seconds=60):
    seen, end = b"", time.monotonic() + seconds
    while text not in seen and time.monotonic() < end:
        if select.select([stream], [], [], 1)[0]:
            piece = os.read(stream.fileno() if hasattr(stream, "fileno") else stream, 4096)
            if not piece:
                break
            seen += piece
    assert text in seen, seen
    return seen


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_at_the_prompt(ready, apc_process, number, code):
    process = apc_process(*BASE, stdin=subprocess.PIPE, text=False)
    process.stdin.write(b"hello\n")
    process.stdin.flush()
    wait_for(process.stdout, b"\n")
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code and b"Traceback" not in err
    assert len(turns(ready)) == 2


def test_interrupted_in_the_middle_of_an_answer(ready, apc_process):
    process = apc_process(
        *BASE, "--set", "policy.max_new_tokens=100000", stdin=subprocess.PIPE, text=False
    )
    process.stdin.write(b"hello\n")
    process.stdin.flush()
    wait_for(process.stdout, b"Mara: ")
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert b"Traceback" not in err and b"Fatal" not in err
    assert b"interrupted" in err
    assert not ready.path("chats").exists()


def test_on_a_terminal_lines_are_edited_and_ctrl_d_ends(ready, apc_process):
    master, slave = pty.openpty()
    environment = {**os.environ, "NO_COLOR": "1", "TERM": "xterm"}
    process = apc_process(*BASE, stdin=slave, stdout=slave, stderr=slave, env=environment)
    os.close(slave)
    wait_for(master, b"you> ")
    os.write(master, b"helo\x1b[Dl\n")  # an arrow key, then the missing letter
    seen = wait_for(master, b"Mara: ")
    seen += wait_for(master, b"you> ")
    os.write(master, b"\x04")
    assert process.wait(timeout=60) == 0, seen
    os.close(master)
    assert turns(ready)[0]["content"] == "hello"
