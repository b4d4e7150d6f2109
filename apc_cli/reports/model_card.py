"""The README of an exported character: how it was made, how good it is, under what licences."""

import re
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from apc_cli.reports.comparison_pages import markdown_table, plain
from apc_cli.reports.comparison_tables import TextTable, faithfulness
from apc_cli.reports.judges import judged_by
from apc_cli.reports.terminal import safe


def model_card(facts: Mapping[str, Any]) -> str:
    """The card as Markdown with the front matter that model hubs read."""
    environment = Environment(
        loader=PackageLoader("apc_cli.reports"),
        autoescape=False,  # Markdown: the filters below escape
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
    )
    environment.filters |= {
        "line": lambda value: plain(str(value)),
        "fence": lambda text: re.sub("`{3,}", "'''", safe(text)),
        "grid": lambda table: markdown_table(table, heading=False),
    }
    return environment.get_template("model_card.md.j2").render(**facts)


def measured_tables(
    quick: Mapping[str, Any] | None, full: Mapping[str, Any] | None
) -> list[TextTable]:
    """What is known of the adapter: `apc train`'s before/after table, `apc evaluate`'s table."""
    found = []
    if quick:
        titles = {
            "base": "base model",
            "before": "before training by preferences",
            "after": "trained",
        }
        rows = [[titles[s], *_figures(quick[s])] for s in titles if s in quick]
        columns = ["", "ΔAPC (95%)", "active reward", "passive penalty", "words", "NLL per token"]
        title = f"{quick['queries']} queries, by {judged_by(quick['evaluator'])}"
        found.append(TextTable(title, columns, rows))
    if full:
        found.append(faithfulness(full))
    return found


def _figures(system: Mapping[str, Any]) -> list[str]:
    low, high = system["ci95"]
    return [
        f"{system['delta']:+.3f} ({low:+.3f} … {high:+.3f})",
        f"{system['active_reward']:.3f}",
        f"{system['passive_penalty']:.3f}",
        f"{system['words']:.1f}",
        f"{system['nll_per_token']:.2f}",
    ]
