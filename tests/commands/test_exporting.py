"""`apc export`: what plain transformers and peft load is what `apc chat` talks with."""

import json
import re

import pytest
import torch
import yaml

from apc_cli.models.playing.role_player import RolePlayer
from apc_cli.reports.serving import Exported, modelfile, served_name, serving_lines
from apc_cli.workspace import digest

OFFLINE = ("--character", "Mara", "--profile", "offline")
TALK = [{"role": "system", "content": "Mara bakes."}, {"role": "user", "content": "Who are you?"}]


def logits(model, player):
    ids = player.tokenizer(player.prompt_text(TALK), return_tensors="pt").input_ids
    with torch.no_grad():
        return model(input_ids=ids).logits.float()


def front_matter(folder):
    card = (folder / "README.md").read_text()
    return yaml.safe_load(re.match(r"---\n(.*?)\n---", card, re.DOTALL)[1]), card


def test_the_merged_model_answers_like_base_and_adapter_in_plain_transformers(trained, apc, models):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    code, out, err = apc("export", *OFFLINE, "--dtype", "float32")
    assert code == 0, err
    folder = trained / "workspace/Mara/export/merged"
    adapter = trained / "workspace/Mara/adapter"
    ours = RolePlayer.load(str(models / "chat"), adapter=adapter, device="cpu", dtype="float32")
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    expected = logits(ours.model, ours)
    torch.testing.assert_close(logits(plain, ours), expected, rtol=1e-4, atol=1e-4)
    base = RolePlayer.load(str(models / "chat"), device="cpu", dtype="float32")
    assert not torch.allclose(logits(base.model, ours), expected, atol=1e-3)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = tokenizer.apply_chat_template(TALK, tokenize=False, add_generation_prompt=True)
    assert text == ours.prompt_text(TALK)
    assert plain.generation_config.max_new_tokens == 8 and plain.generation_config.do_sample
    assert f"vllm serve {folder.relative_to(trained)} --served-model-name mara" in out
    assert "--max-lora-rank" not in out
    front, card = front_matter(folder)
    assert front["base_model"] == str(models / "chat") and front["library_name"] == "transformers"
    weights = folder / "model.safetensors"
    for value in (
        digest(weights),
        digest(adapter),
        "| build-dpo |",
        "statements.txt",
        "before training",
    ):
        assert value in card
    quick = json.loads((trained / "workspace/Mara/evaluation.json").read_text())
    assert f"{quick['after']['delta']:+.3f}" in card
    system = (folder / "Modelfile").read_text()
    assert "FROM .\n" in system and "PARAMETER num_predict 8" in system
    statements = (folder / "statements.txt").read_text().splitlines()
    assert len(statements) >= 5 and all(s in system for s in statements)
    code, _, err = apc("export", *OFFLINE)
    assert code == 2 and "is there already" in err
    assert not list(folder.parent.glob(".*"))


def test_the_card_tells_how_it_was_trained_whatever_is_configured_now(trained, apc):
    code, _, err = apc("export", *OFFLINE, "--set", "dpo.beta=0.77", "--set", "algorithm=grpo")
    assert code == 0, err
    _, card = front_matter(trained / "workspace/Mara/export/merged")
    assert "| dpo.beta | 0.1 |" in card and "0.77" not in card and "grpo.beta" not in card
    code, _, err = apc("export", *OFFLINE, "--set", "policy.method=lcm", "--to", "other")
    assert code == 2 and "trained with policy.method rag" in err


def test_the_adapter_alone_is_plain_peft_and_names_its_rank(trained, apc, models):
    from peft import AutoPeftModelForCausalLM

    target = trained / "out" / "mara"
    code, out, err = apc("export", *OFFLINE, "--adapter", "--to", str(target))
    assert code == 0, err
    plain = AutoPeftModelForCausalLM.from_pretrained(target, dtype=torch.float32).eval()
    adapter = trained / "workspace/Mara/adapter"
    ours = RolePlayer.load(str(models / "chat"), adapter=adapter, device="cpu", dtype="float32")
    torch.testing.assert_close(logits(plain, ours), logits(ours.model, ours))
    assert "--max-lora-rank 8" in out and f"--lora-modules mara={target}" in out
    assert "convert_lora_to_gguf.py" in out and "ADAPTER ." in (target / "Modelfile").read_text()
    assert front_matter(target)[0]["library_name"] == "peft"
    assert not (target / "model.safetensors").exists()
    code, _, err = apc("export", *OFFLINE, "--to", str(target), "--force", "--dtype", "float32")
    assert code == 0 and (target / "model.safetensors").exists(), err
    assert not (target / "adapter_config.json").exists()


def test_figures_of_another_adapter_are_not_shown(trained, apc):
    manifest = trained / "workspace/Mara/manifest.json"
    known = json.loads(manifest.read_text())
    known["evaluation"]["inputs"]["adapter"] = "0" * 64
    manifest.write_text(json.dumps(known))
    assert apc("export", *OFFLINE, "--adapter")[0] == 0
    card = (trained / "workspace/Mara/export/adapter/README.md").read_text()
    assert "Not measured with this adapter" in card and "before training" not in card


def test_what_cannot_be_exported_is_told(trained, apc, models):
    code, _, err = apc("export", *OFFLINE, "--dtype", "int4")
    assert code == 2 and "--dtype int4" in err
    code, _, err = apc("export", *OFFLINE, "--set", f"policy.model={models / 'gemma'}")
    assert code == 2 and "was trained on" in err and "policy.model" in err
    (trained / "file").write_text("x")
    code, _, err = apc("export", *OFFLINE, "--to", "file", "--force")
    assert code == 2 and "is no directory" in err and (trained / "file").read_text() == "x"


@pytest.mark.parametrize("place", ["wiki", ".", "workspace/Mara", "workspace/Mara/adapter"])
def test_what_is_no_export_is_never_replaced(trained, apc, place):
    def files():
        return {p: p.read_bytes() for p in trained.rglob("*") if p.is_file() and p.name != "lock"}

    before = files()
    code, _, err = apc("export", *OFFLINE, "--adapter", "--to", place, "--force")
    assert code == 2 and "something else than an export" in err and "--force" not in err
    assert files() == before


def test_an_export_with_something_of_the_user_s_in_it_is_not_replaced(trained, apc):
    target = trained / "mine"
    ask = ("export", *OFFLINE, "--adapter", "--to", str(target))
    assert apc(*ask)[0] == 0
    (target / ".git").mkdir()
    code, _, err = apc(*ask, "--force")
    assert code == 2 and "(.git)" in err
    (target / ".git").rename(target / "thesis.txt")
    code, _, err = apc(*ask, "--force")
    assert code == 2 and "(thesis.txt)" in err
    (target / "thesis.txt").rmdir()
    assert apc(*ask, "--force")[0] == 0


def test_an_untrained_character_has_nothing_to_export(project, apc):
    code, _, err = apc("export", *OFFLINE)
    assert code == 2 and "the adapter is not there yet" in err


def exported(tmp_path, **changes):
    values = {
        "name": "mara", "directory": tmp_path / "a b", "base": "org/base", "rank": 20,
        "architecture": "LlamaForCausalLM",
    }  # fmt: skip
    return Exported(**(values | changes))


@pytest.mark.parametrize(
    ("rank", "shown"), [(1, "1"), (20, "32"), (128, "128"), (300, "320"), (513, None)]
)
def test_vllm_gets_a_rank_that_it_takes(tmp_path, rank, shown):
    [line] = dict(serving_lines(exported(tmp_path, rank=rank)))["vLLM"]
    if shown is None:
        assert line.startswith("#") and "513" in line
    else:
        assert line.endswith(f"--max-lora-rank {shown}") and f"'{tmp_path}/a b'" in line


def test_ollama_s_limits_are_told(tmp_path):
    lines = dict(serving_lines(exported(tmp_path, rank=None, architecture="Qwen3ForCausalLM")))
    assert "Qwen3ForCausalLM" in lines["Ollama"][0] and lines["Ollama"][1].startswith("ollama")
    lines = dict(serving_lines(exported(tmp_path)))
    assert "very base model" in lines["Ollama"][0] and "quantised" in lines["Ollama"][0]


def test_a_system_text_cannot_end_the_modelfile_s_quotes(tmp_path):
    from apc_cli.config import Policy

    text = modelfile(exported(tmp_path), Policy(), 'a """\nFROM evil', ["careful"])
    assert text.count('"""') == 2 and text.startswith("# careful\nFROM org/base\nADAPTER .\n")
    assert served_name("Komeiji Koishi") == "komeiji-koishi" and served_name("玛拉") == "character"
