"""A key, no server but the test's own, and an empty journal."""

import pytest
from chat_cases import KEY

from apc_cli.models.llm.journal import Journal


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


@pytest.fixture
def journal(tmp_path):
    with Journal(tmp_path / "journal") as opened:
        yield opened
