"""Class balance, sources and agreement of labelled data, worked by hand."""

from rich.console import Console

from apc_cli.records import NliExample, RelevanceExample
from apc_cli.reports.console import cost_line, label_table
from apc_cli.reports.labels import label_report


def relevance(label, statement="A.", asked_of="A.", source="logprobs"):
    return RelevanceExample(statement, "Q?", asked_of, label, (0.5, 0.5), source)


def nli(label, written_as, statement="A.", written_for="A."):
    return NliExample(statement, "Q?", "R.", written_for, written_as, label, (0, 0, 1), "samples")


RELEVANCE = [relevance("yes"), relevance("no"), relevance("no", asked_of="B."),
             relevance("no", asked_of="B.", source="answer")]  # fmt: skip
NLI = [nli("entailed", "entailed"), nli("neutral", "contradicted"), nli("neutral", "neutral"),
       nli("neutral", "entailed", written_for="B.")]  # fmt: skip


def test_only_rows_about_their_own_statement_count_for_agreement():
    report = label_report(RELEVANCE, NLI)
    assert report["relevance"] == {
        "rows": 4,
        "labels": {"no": 0.75, "yes": 0.25},
        "sources": {"logprobs": 3, "answer": 1},
        "written": 2,
        "as_written": 0.5,
    }
    assert report["nli"]["labels"] == {"entailed": 0.25, "neutral": 0.75}
    assert (report["nli"]["written"], report["nli"]["as_written"]) == (3, 0.6667)
    assert label_report([relevance("no", asked_of="B.")], NLI)["relevance"]["as_written"] is None


def test_the_table_shows_balance_agreement_and_sources():
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(label_table(label_report(RELEVANCE, NLI)))
    text = " ".join(console.export_text().split())
    for shown in ("yes │ 25.0%", "of 3 │ 66.7%", "labels from samples │ 4"):
        assert shown in text


def test_a_cost_says_when_the_price_is_unknown():
    cost = {"requests": 3, "stored": 1, "input_tokens": 1200, "output_tokens": 5, "dollars": None}
    assert cost_line(cost) == (
        "3 requests, 1 replies from the journal, 1,200 tokens in, 5 out, price unknown"
    )
    assert cost_line(cost | {"dollars": 0.5}).endswith("$0.5000")
