"""How often `apc lint` is right about two statements of a persona.

    python bench/lint.py

`lint_chosen.yaml` are the pairs on which rules and thresholds were chosen, `lint_pairs.yaml` pairs
that another author wrote without knowing the rules. "judge alone" is what lint did before it looked
at the words: the mean probability of a contradiction above 0.8, else an entailment above 0.5.
The words that count as vague were chosen on the statements that are counted here.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml

from apc_cli.models.judging.scorer import Scorer
from apc_cli.models.rules.wording import is_vague, told_by
from apc_cli.prompts import interview_questions
from apc_cli.records import NLI_LABELS
from apc_cli.steps.lint import _clash

FOLDER = Path(__file__).parent
FILES = {"chosen on": "lint_chosen.yaml", "measured on": "lint_pairs.yaml"}
KINDS = {"contradictions": "contradiction", "duplicates": "duplicate", "harmless": None}
CONTRADICTED, ENTAILED = (NLI_LABELS.index(label) for label in ("contradicted", "entailed"))


class Pair(NamedTuple):
    """Two statements of a character, and what lint should call them."""

    character: str
    one: str
    other: str
    truth: str | None


def main() -> None:
    """Prints precision and recall of each kind of finding."""
    pair = "judge:evaluator"
    scorer = Scorer.load(relevance=f"{pair}/relevance", nli=f"{pair}/nli", device="cpu")
    for name, file in FILES.items():
        content = yaml.safe_load((FOLDER / file).read_text(encoding="utf-8"))
        pairs = list(read(content))
        verdicts = told(scorer, pairs)
        print(f"{name} {len(pairs)} pairs")
        show("judge alone", pairs, [alone(v) for v in verdicts])
        found = [found_in(p, v) for p, v in zip(pairs, verdicts, strict=True)]
        show("apc lint", pairs, found)
        if "vague" in content:
            show_vague(content)


def read(content: dict) -> Iterator[Pair]:
    """The pairs of a file, whose kinds may have kinds of their own."""
    for kind, truth in KINDS.items():
        parts = content[kind].values() if isinstance(content[kind], dict) else [content[kind]]
        yield from (Pair(*row, truth) for part in parts for row in part)


def told(scorer: Scorer, pairs: list[Pair]) -> np.ndarray:
    """What telling either statement makes of the other: (pairs, 2, NLI_LABELS)."""
    query, items = interview_questions("en")[0], []
    for who, one, other, _ in pairs:
        first, second = told_by(who, [one, other])
        items += [(who, other, query, first), (who, one, query, second)]
    return scorer.verdicts(items).reshape(len(pairs), 2, -1)


def found_in(pair: Pair, verdicts: np.ndarray) -> str | None:
    """What lint calls a pair."""
    finding = _clash(pair.character, [pair.one, pair.other], 0, 1, *verdicts)
    return finding.problem if finding else None


def alone(verdicts: np.ndarray) -> str | None:
    """What the judge alone would call it."""
    if verdicts[:, CONTRADICTED].mean() > 0.8:
        return "contradiction"
    return "duplicate" if verdicts[:, ENTAILED].max() > 0.5 else None


def show(name: str, pairs: list[Pair], found: list[str | None]) -> None:
    """One line: precision, recall and counts of contradictions and of duplicates."""
    cells = []
    for kind in ("contradiction", "duplicate"):
        hits = sum(f == kind == p.truth for p, f in zip(pairs, found, strict=True))
        called, there = found.count(kind), sum(p.truth == kind for p in pairs)
        shares = f"precision {hits / max(1, called):.2f}, recall {hits / there:.2f}"
        cells.append(f"{kind} {shares} ({hits} right of {called} found, {there} there)")
    print(f"  {name}: {'; '.join(cells)}")


def show_vague(content: dict) -> None:
    """One line of the statements that are vague, or not."""
    found = {kind: [is_vague(*row) for row in content[kind]] for kind in ("vague", "not_vague")}
    hits, wrong = sum(found["vague"]), sum(found["not_vague"])
    print(f"  vague: {hits} of {len(found['vague'])} found, {wrong} of the others called so")


if __name__ == "__main__":
    main()
