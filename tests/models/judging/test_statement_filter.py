"""The filter: what it chooses, and what a score says of what was left out."""

import numpy as np
import pytest

from apc_cli.models.judging.scorer import Scorer
from apc_cli.models.judging.statement_filter import NearestStatements

STATEMENTS = tuple(f"Mara owns thing number {i}." for i in range(40))


class Words:
    """Embeds a text as the numbers in it, so that nearness can be told by hand."""

    def embed(self, texts):
        rows = np.zeros((len(texts), 64), np.float32)
        for row, text in enumerate(texts):
            for word in text.strip(".!?").split():
                if word.strip(".").isdigit():
                    rows[row, int(word.strip("."))] = 1
        return rows


def test_it_takes_what_is_near_the_query_or_any_sentence():
    nearest = NearestStatements(0.2, Words())
    found = nearest.choose(STATEMENTS, "What about 39 and 7", "I have 12. Also 30!")
    assert len(found) == 8 and {7, 12, 30, 39} <= set(found) and found == sorted(found)
    assert nearest.choose(STATEMENTS[:8], "q", "r") == list(range(8))
    assert len(nearest.choose(STATEMENTS, "q", "")) == 8


@pytest.fixture
def judges(models):
    from apc_cli.models.judging.discriminator import Discriminator
    from apc_cli.records import NLI_LABELS, RELEVANCE_LABELS

    folder = models / "evaluator"
    return [
        Discriminator.load(str(folder / kind), labels=labels, device="cpu", dtype="float32")
        for kind, labels in (("relevance", RELEVANCE_LABELS), ("nli", NLI_LABELS))
    ]


def test_what_is_left_out_counts_as_passive_and_kept(judges):
    nearest = NearestStatements(0.25, Words())
    replies = [("What about 39", "I have 12."), ("What about 1", "Nothing.")]
    for (query, reply), score in zip(
        replies,
        Scorer(*judges, nearest=nearest).score_all("Mara", STATEMENTS, replies),
        strict=True,
    ):
        chosen = nearest.choose(STATEMENTS, query, reply)
        assert score.judged == len(chosen) == 10
        [part] = Scorer(*judges).score("Mara", [STATEMENTS[i] for i in chosen], query, [reply])
        assert score.delta == pytest.approx(part.delta, abs=1e-4)
        assert score.apc == pytest.approx(part.apc + 30, abs=1e-4)
        assert score.row()["apc"]["judged"] == 10
        left_out = [c for i, c in enumerate(score.constraints) if i not in chosen]
        assert all(c.relevance == 0 and c.neutral == 1 and c.violation is None for c in left_out)
    assert "judged" not in part.row()["apc"]
