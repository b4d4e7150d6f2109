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
