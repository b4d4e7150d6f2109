"""The README in an adapter's directory."""

from collections.abc import Mapping
from typing import Any


def adapter_card(
    character: str, base: str, algorithm: str, learnt_from: str, settings: Mapping[str, Any]
) -> str:
    """The card as Markdown with the front matter that model hubs read."""
    rows = "\n".join(f"| {name} | {value} |" for name, value in settings.items())
    return f"""---
base_model: {base}
library_name: peft
pipeline_tag: text-generation
tags: [role-play, {algorithm.lower()}, lora]
---
# {character}

A LoRA adapter that plays {character}, trained by {algorithm} on {learnt_from}
ranked by their APC score (active-passive constraints, NeurIPS 2024).

| setting | value |
|---|---|
{rows}

Load it with `peft.AutoPeftModelForCausalLM.from_pretrained(DIRECTORY)`, or talk to it with
`apc chat`; `apc export` makes a directory for other programs. The base model's licence applies.
`evaluation.json`, beside this folder, says how faithful it is.
"""
