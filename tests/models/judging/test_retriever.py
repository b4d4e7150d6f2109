"""What is retrieved, by the judge and by embeddings."""

import numpy as np
import pytest

from apc_cli.errors import ConfigError
from apc_cli.models.judging.embedder import Embedder
from apc_cli.models.judging.retriever import Retriever, by_discriminator, by_embedding
from apc_cli.models.judging.scorer import Scorer

STATEMENTS = ["Mara bakes bread.", "Mara fears dogs.", "Mara owns two cats.", "Mara speaks Danish."]


def test_the_best_in_the_persona_s_order_and_ties_to_the_earlier():
    retriever = Retriever(lambda query: np.array([0.5, 0.9, 0.5, 0.1]), STATEMENTS)
    assert retriever.top("q", 1) == [STATEMENTS[1]]
    assert retriever.top("q", 2) == STATEMENTS[:2]
    assert retriever.top("q", 9) == STATEMENTS


def test_the_judge_s_order_is_its_relevance(models):
    folder = models / "reward"
    scorer = Scorer.load(relevance=str(folder / "relevance"), nli=str(folder / "nli"), device="cpu")
    relevance = scorer.relevance("Mara", STATEMENTS, "Do you have pets?")
    best = STATEMENTS[int(relevance.argmax())]
    assert by_discriminator(scorer, "Mara", STATEMENTS).top("Do you have pets?", 1) == [best]


def test_embeddings_find_what_is_meant():
    retriever = by_embedding(Embedder(device="cpu"), STATEMENTS)
    assert retriever.top("Do you have any pets, such as a kitten?", 1) == ["Mara owns two cats."]
    assert retriever.top("Which foreign languages do you know?", 1) == ["Mara speaks Danish."]


def test_an_embedder_that_cannot_be_had_is_named(tmp_path):
    with pytest.raises(ConfigError, match="cannot load the embedding model"):
        Embedder(str(tmp_path), device="cpu")


def test_the_prompt_is_made_of_what_the_embeddings_retrieve(project, apc):
    import json

    code, _, err = apc(
        "build-dpo", "--character", "Mara", "--profile", "offline", "--set",
        "policy.retriever=embedding", "--set", "policy.rag_top_k=1", "--set", "warm_up.epochs=0",
    )  # fmt: skip
    assert code == 0, err
    embedder = Embedder(device="cpu")
    folder = project / "workspace/Mara"
    known = [json.loads(x)["statement"] for x in (folder / "statements.jsonl").open()]
    for line in (folder / "replies.jsonl").open():
        row = json.loads(line)
        [wanted] = by_embedding(embedder, known).top(row["query"], 1)
        assert row["prompt"][0]["content"].startswith(f"{wanted}\n\n")
