"""What the tests of the chat model share."""

import sys
from pathlib import Path

from apc_cli.models.llm.chat_gate import Patience
from apc_cli.models.llm.chat_model import ChatModel
from apc_cli.models.llm.chat_replies import Completion
from apc_cli.models.llm.chat_requests import ChatRequest

# There is no package around the tests: this makes `fake_openai` importable.
sys.path.insert(0, str(Path(__file__).parents[2]))

KEY = "sk-canary-0123456789abcdef"
HASTY = Patience(first_pause=0.01, longest_pause=0.02, deadline=5.0, drain=1.0, silence=0.0)


def ask(content, **fields):
    values = {"temperature": 0.0, "max_tokens": 50} | fields
    return ChatRequest(({"role": "user", "content": content},), **values)


def items(count):
    return [ask(f"item {number}") for number in range(count)]


def echoes(count):
    return [Completion(f"echo: item {number}") for number in range(count)]


def model(server, journal, patience=HASTY, concurrency=4):
    return ChatModel("m", server.url, concurrency, journal, patience=patience)
