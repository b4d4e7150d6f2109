"""Which artifacts and settings a stage depends on."""

from apc_cli.config import load_config
from apc_cli.stages import stages_for

JUDGES = {
    f"judge:{pair}/{kind}" for pair in ("reward", "evaluator") for kind in ("relevance", "nli")
}


def reads(project, *settings):
    config = load_config("Alice", profile="offline", settings=settings, folder=project)
    return {stage.name: set(stage.reads) for stage in stages_for(config)}


def test_shipped_judges_are_inputs_so_that_new_ones_are_noticed(tmp_path):
    (tmp_path / "wiki").mkdir()
    (tmp_path / "wiki" / "Alice_wiki.txt").write_text("Alice sings.")
    reward = {name for name in JUDGES if "reward" in name}
    offline = reads(tmp_path)
    assert offline["evaluation"] >= JUDGES
    for stage in ("experience", "warm-up", "build-dpo", "train-discriminators"):
        assert offline[stage] & JUDGES == reward
    own = reads(tmp_path, "discriminators.source=train")
    assert "discriminators" in own["build-dpo"] and not own["build-dpo"] & JUDGES
    assert own["evaluation"] & JUDGES == JUDGES - reward


NO_RESULT = {
    "device", "algorithm", "dpo.rounds",  # which stages there are, and where they run
    "policy.backend", "policy.base_url", "policy.insecure_http", "policy.concurrency",
    "policy.sharding",
    "discriminators.source",
    "persona.wiki", "persona.statements",  # inputs by their content
}  # fmt: skip
"""Settings that change no artifact, or by way of an input."""


def test_every_other_setting_decides_some_stage(tmp_path):
    (tmp_path / "wiki").mkdir()
    (tmp_path / "wiki" / "Alice_wiki.txt").write_text("Alice sings.")
    ways = [(), ("algorithm=grpo",), ("discriminators.source=train", "teacher.backend=openai"),
            ("evaluator.backend=openai", "persona.weights={Alice sings.: 0.5}")]  # fmt: skip
    keys: set[str] = set()
    for way in ways:
        config = load_config("Alice", profile="offline", settings=way, folder=tmp_path)
        keys |= {key for stage in stages_for(config) for key in stage.keys}
    settings = set(leaves(config.character.model_dump()))
    forgotten = {s for s in settings if not any(s == k or s.startswith(k + ".") for k in keys)}
    assert {s for s in forgotten if not s.startswith("teacher.")} == NO_RESULT


def leaves(section, prefix=""):
    for name, value in section.items():
        if isinstance(value, dict) and name != "weights":
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name
