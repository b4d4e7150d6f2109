"""`apc evaluate` on tiny real models: systems, files, what is done again and what is not."""

import json
import re
from html.parser import HTMLParser

import pytest

from apc_cli.workspace import digest

OFFLINE = ("--character", "Mara", "--profile", "offline")
PLAYED = ("--set", "evaluation.samples_per_query=2")


def report(project):
    return json.loads((project / "workspace/Mara/reports/evaluation.json").read_text())


def test_methods_by_stage_with_intervals_tests_and_a_curve(trained, apc):
    adapter = digest(trained / "workspace/Mara/adapter")
    code, out, err = apc(
        "evaluate", *OFFLINE, *PLAYED, "--methods", "vanilla,rag", "--top-k", "1,3"
    )
    assert code == 0, err
    paths = out.split()
    assert [path.rsplit(".")[-1] for path in paths] == ["json", "md", "html"]
    found = report(trained)
    systems = found["systems"]
    methods = ("vanilla", "rag")
    assert list(systems) == [m + s for m in methods for s in ("", " + SFT", " + SFT + DPO")]
    for figures in systems.values():
        assert figures["replies"] == 2 * len(found["queries"])
        low, high = figures["delta_ci95"]
        assert low <= figures["delta"] <= high
        parts = figures["active_reward"] - figures["passive_penalty"]
        assert figures["delta"] == pytest.approx(parts, abs=2e-4)
        assert set(figures["delta_by_source"]) == {"interview", "held out"}
    assert found["baseline"] == "rag" and len(found["against_baseline"]) == 5
    assert [row["before"] for row in found["training"]][:2] == ["vanilla", "vanilla + SFT"]
    for row in (*found["against_baseline"], *found["training"]):
        gain = systems[row["after"]]["delta"] - systems[row["before"]]["delta"]
        assert row["delta"] == pytest.approx(gain, abs=2e-4)
        assert row["p"] <= row["p_holm"] <= 1
    assert list(found["top_k"]) == ["rag", "rag + SFT", "rag + SFT + DPO"]
    assert all(list(points) == ["1", "3"] for points in found["top_k"].values())
    assert systems["vanilla"]["delta"] != systems["rag"]["delta"]
    assert digest(trained / "workspace/Mara/adapter") == adapter
    assert "What each step of training gained" in err and "Against rag" in err


def test_the_same_again_samples_nothing_and_another_method_only_itself(trained, apc):
    rows = trained / "workspace/Mara/reports/rows"
    assert apc("evaluate", *OFFLINE, "--methods", "rag", "--queries", "held-out")[0] == 0
    first = {path: path.stat().st_mtime_ns for path in rows.iterdir()}
    before = report(trained)
    assert apc("evaluate", *OFFLINE, "--methods", "rag", "--queries", "held-out")[0] == 0
    assert {path: path.stat().st_mtime_ns for path in rows.iterdir()} == first
    assert report(trained) == before
    assert apc("evaluate", *OFFLINE, "--methods", "rag,lcm", "--queries", "held-out")[0] == 0
    after = {path: path.stat().st_mtime_ns for path in rows.iterdir()}
    assert len(after) >= len(first) + 2 and first.items() <= after.items()
    assert report(trained)["systems"]["rag"] == before["systems"]["rag"]


def test_each_method_can_have_an_adapter_of_its_own(trained, apc):
    command = (
        "evaluate", *OFFLINE, "--methods", "rag,eu", "--own-adapters", "--samples", "1",
        "--queries", "held-out",
    )  # fmt: skip
    adapter = digest(trained / "workspace/Mara/adapter")
    code, _, err = apc(*command, "--dry-run")
    assert code == 0 and "will run experience" in err and "will run statements" not in err
    code, _, err = apc(*command)
    assert code == 0, err
    folder = trained / "workspace/Mara"
    assert list(report(trained)["systems"]) == [
        "rag", "rag + SFT", "rag + SFT + DPO", "eu", "eu + DPO",
    ]  # fmt: skip
    assert digest(folder / "adapter") == adapter
    assert digest(folder / "methods/eu/adapter") not in (None, adapter)
    assert not (folder / "methods/eu/statements.jsonl").exists()
    pair = json.loads((folder / "methods/eu/pairs.jsonl").read_text().splitlines()[0])
    assert "Mara" in pair["prompt"][0]["content"] and "baker" not in pair["prompt"][0]["content"]
    code, _, err = apc(*command)
    assert code == 0 and err.count("nothing to do") == 2


def test_untrained_methods_need_no_adapter(project, apc):
    code, _, err = apc(
        "evaluate", *OFFLINE, "--untrained", "--samples", "1", "--queries", "held-out"
    )
    assert code == 0, err
    found = report(project)
    assert list(found["systems"]) == ["vanilla", "lcm", "rag"] and found["training"] == []
    assert not (project / "workspace/Mara/adapter").exists()


SHARED_OUT = ("--set", "policy.sharding=full", "--set", "policy.quantization=none")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--methods", "rag,lmc"), ["lmc", "known: vanilla,eu,lcm,rag"]),
        (("--methods", ""), ["nothing"]),
        (("--methods", "eu"), ["--own-adapters"]),
        (("--top-k", "1,x"), ["--top-k 1,x"]),
        (("--top-k", "0"), ["--top-k 0"]),
        (("--top-k", "3", "--methods", "lcm"), ["add rag"]),
        (("--queries", "mine"), ["--queries mine"]),
        (("--untrained", "--own-adapters"), ["exclude each other"]),
        (("--samples", "0"), ["--samples"]),
        (("--own-adapters", *SHARED_OUT), ["leave --own-adapters out"]),
    ],
)
def test_a_plan_that_cannot_be_is_refused_at_once(project, apc, options, words):
    code, _, err = apc("evaluate", *OFFLINE, *options)
    assert code == 2 and len(err.splitlines()) == 1, err
    assert all(word in err for word in words), err
    assert not (project / "workspace").exists()


def test_a_baseline_that_is_no_system_names_those_there_are(trained, apc):
    code, _, err = apc("evaluate", *OFFLINE, "--methods", "rag", "--baseline", "vanilla")
    assert code == 2 and "there are: rag, rag + SFT, rag + SFT + DPO" in err


def test_an_unknown_baseline_is_refused_before_anything_is_trained(trained, apc):
    asked = ("--methods", "vanilla,rag", "--own-adapters", "--baseline", "vanilla + GRPO")
    code, _, err = apc("evaluate", *OFFLINE, *asked)
    assert code == 2 and "vanilla + SFT + DPO, rag, rag + SFT" in err and "will run" not in err
    assert not (trained / "workspace/Mara/methods").exists()


def test_a_prompt_longer_than_the_model_reads_is_told(project, apc):
    code, _, err = apc("evaluate", *OFFLINE, "--untrained", "--set", "policy.max_new_tokens=1000")
    assert code == 65 and "the model reads 1024" in err and "Traceback" not in err


class _Page(HTMLParser):
    """Counts tags and attributes that could load or run anything."""

    def __init__(self):
        super().__init__()
        self.tags, self.suspect, self.text = [], [], ""

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.suspect += [(tag, key) for key, _ in attributes if key in ("src", "href", "onload")]

    def handle_data(self, data):
        self.text += data


def test_what_strangers_wrote_is_text_in_every_report(project, apc):
    evil = "Mara <script>alert(1)</script> owns | two `cats` & \x1b[2J\u202edogs."
    (project / "mine.txt").write_text(f"{evil}\nMara is a baker.\nMara fears dogs.\n")
    code, _, err = apc(
        "evaluate", *OFFLINE, "--untrained", "--set", "persona.statements=mine.txt",
        "--methods", "rag", "--top-k", "1,2", "--queries", "held-out", "--samples", "1",
    )  # fmt: skip
    assert code == 0, err
    folder = project / "workspace/Mara/reports"
    page = _Page()
    html = (folder / "evaluation.html").read_text()
    page.feed(html)
    assert "script" not in page.tags and page.suspect == [] and page.tags.count("svg") == 2
    assert "<script>alert(1)</script>" in page.text
    assert "default-src 'none'" in html and "http://" not in html.replace("http://www.w3.org", "")
    markdown = (folder / "evaluation.md").read_text()
    assert "\\<script\\>" in markdown and "<script>" not in markdown
    for text in (html, markdown):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e]", text)
    widths = {row.replace("\\|", "").count("|") for row in markdown.splitlines() if "cost" in row}
    assert widths == {7}


def test_the_readme_s_commands_are_understood(trained, apc):
    import shlex
    from pathlib import Path

    readme = (Path(__file__).parents[2] / "README.md").read_text()
    lines = re.findall(r"^apc evaluate -c Alice.*$", readme, re.MULTILINE)
    assert len(lines) == 3
    for line in lines:
        _, *words = shlex.split(line.replace("Alice", "Mara"), comments=True)
        code, _, err = apc(*words, "--profile", "offline", "--dry-run")
        assert code == 0, err
