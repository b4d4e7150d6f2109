"""What would stop a stage is told before it starts."""

import shutil
from types import SimpleNamespace

import pytest

from apc_cli.models.sizes import count_weights

OFFLINE = ("--character", "Mara", "--profile", "offline", "--set", "device=cpu")


@pytest.fixture
def free(monkeypatch):
    """Sets how many bytes each disk has left."""

    def left(count):
        monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=count))

    return left


def test_weights_are_counted_from_the_configuration(trained, models):
    from safetensors.torch import load_file

    def numbers(path):
        return sum(weight.numel() for weight in load_file(path).values())

    made = trained / "workspace/Mara/adapter/adapter_model.safetensors"
    expected = numbers(models / "chat/model.safetensors"), numbers(made)
    assert count_weights(str(models / "chat"), 4) == expected
    assert count_weights(str(models), 4) is None


def test_training_without_space_is_refused_before_anything_starts(project, apc, models, free):
    adapter = 4 * count_weights(str(models / "chat"), 4)[1]
    free(5 * adapter - 1)
    code, out, err = apc("train", *OFFLINE)
    told = err.strip().splitlines()
    assert code == 1 and not out and sum("error:" in line for line in told) == 1
    assert "GB free, adapters and a checkpoint will take" in told[-1]
    assert not (project / "workspace/Mara/statements.jsonl").exists()
    code, _, err = apc("statements", *OFFLINE)
    assert code == 0, err


def test_an_export_without_space_is_refused(trained, apc, models, free):
    whole, adapter = count_weights(str(models / "chat"), 4)
    free(2 * whole - 1)
    for dtype in ("bfloat16", "float32"):
        code, out, err = apc("export", *OFFLINE, "--dtype", dtype)
        assert code == 1 and not out and err.count("\n") == 1
        assert "GB free, the merged model will take" in err
    assert not (trained / "workspace/Mara/export").exists()
    free(4 * adapter)
    code, _, err = apc("export", *OFFLINE, "--adapter")
    assert code == 0, err
