"""How far a pair of judges can be believed: its agreement with labels that people gave."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from apc_cli.errors import DataError
from apc_cli.files.row_files import Placed
from apc_cli.models.judging.baselines import (
    Known,
    Pair,
    cross_validated_guesses,
    installed_embedder,
)
from apc_cli.records import NLI_LABELS, RELEVANCE_LABELS
from apc_cli.reports.agreement import agreement, is_better, ordered_pairs

if TYPE_CHECKING:
    from apc_cli.models.judging.embedder import Embedder
    from apc_cli.models.judging.scorer import Scorer
    from apc_cli.progress import Progress

ROW_HINT = (
    'a row is {"character", "statement", "query"} with "relevant": "yes" or "no", and/or '
    '"response" with "nli": "contradicted", "neutral" or "entailed"; optional "group" and "rank"'
)


@dataclass(frozen=True)
class Row:
    """One labelled row; a label that is not given is None."""

    character: str
    statement: str
    query: str
    response: str | None
    relevant: str | None
    nli: str | None
    group: str | None
    rank: int | None


def read_rows(placed: Iterable[Placed], name: str) -> list[Row]:
    """Checks every row of `name`.

    Raises:
        DataError: a row that is not as ROW_HINT says, or no rows.
    """
    rows = [_row(raw, place) for place, raw in placed]
    if not rows:
        raise DataError(f"{name} has no rows", ROW_HINT)
    return rows


def run(
    rows: Sequence[Row],
    personas: Mapping[str, Sequence[str]],
    scorer: "Scorer",
    progress: "Progress",
) -> dict[str, Any]:
    """Agreement of both judges with the labels, of two baselines, and of ΔAPC with the ranks.

    `personas` are the statements that ranked replies are scored against; a character that is not
    there is scored against its statements in `rows`.
    """
    report: dict[str, Any] = {}
    relevance = _one_a_query(rows)
    nli = [row for row in rows if row.nli]
    ranked = [row for row in rows if row.group is not None and row.rank is not None]
    embedder = installed_embedder(progress) if relevance or nli else None
    with progress.task("Judging", 3) as task:
        if relevance:
            found = scorer.relevances([(r.character, r.statement, r.query) for r in relevance])
            labels = [RELEVANCE_LABELS.index(str(row.relevant)) for row in relevance]
            texts = [row.query for row in relevance]
            report["relevance"] = _compared(
                found, labels, relevance, texts, RELEVANCE_LABELS, embedder, scorer.sure_from[0]
            )
        task.advance()
        if nli:
            found = scorer.verdicts(
                [(r.character, r.statement, r.query, str(r.response)) for r in nli]
            )
            labels = [NLI_LABELS.index(str(row.nli)) for row in nli]
            texts = [str(row.response) for row in nli]
            report["nli"] = _compared(
                found, labels, nli, texts, NLI_LABELS, embedder, scorer.sure_from[1]
            )
        task.advance()
        if ranked:
            right, total = ordered_pairs(_ranked(ranked, rows, personas, scorer))
            report["ranking"] = {"pairs": total, "in_order": right / total if total else None}
        task.advance()
    return report


def _row(raw: Mapping[str, Any] | DataError, place: str) -> Row:
    if isinstance(raw, DataError):
        raise raw
    _check_labels(raw, place)
    response, group, rank = raw.get("response"), raw.get("group"), _whole(raw.get("rank"))
    if not isinstance(response, str | None) or (raw.get("nli") and not (response or "").strip()):
        raise DataError(f"{place}: `response` must be text", ROW_HINT)
    if not (rank is None or (type(rank) is int and rank > 0)):
        raise DataError(f"{place}: `rank` must be a whole number from 1", ROW_HINT)
    if (rank is None) != (group is None) or (rank and response is None):
        raise DataError(f"{place}: `group`, `rank` and `response` belong together", ROW_HINT)
    texts = (raw["character"], raw["statement"], raw["query"], response)
    name = None if group is None else str(group)
    return Row(*texts, raw.get("relevant"), raw.get("nli"), name, rank)


def _whole(rank: Any) -> Any:
    """A rank that CSV tells as text, or a Parquet column with gaps as a float."""
    if isinstance(rank, str):
        with suppress(ValueError):
            rank = float(rank)
    return int(rank) if isinstance(rank, float) and rank.is_integer() else rank


def _check_labels(raw: Mapping[str, Any], place: str) -> None:
    for key in ("character", "statement", "query"):
        if not isinstance(raw.get(key), str) or not raw[key].strip():
            raise DataError(f"{place}: `{key}` must be text", ROW_HINT)
    for key, labels in (("relevant", RELEVANCE_LABELS), ("nli", NLI_LABELS)):
        if raw.get(key) is not None and raw[key] not in labels:
            raise DataError(f"{place}: `{key}` is {raw[key]!r}", f"use one of {', '.join(labels)}")
    if all(raw.get(key) is None for key in ("relevant", "nli", "rank")):
        raise DataError(f"{place}: no label", ROW_HINT)


def _one_a_query(rows: Sequence[Row]) -> list[Row]:
    """One row for each (character, statement, query) with a relevance label: replies repeat it.

    Raises:
        DataError: two rows give it different labels.
    """
    found: dict[tuple[str, str, str], Row] = {}
    for row in rows:
        if row.relevant:
            known = found.setdefault((row.character, row.statement, row.query), row)
            if known.relevant != row.relevant:
                raise DataError(
                    f"{row.statement!r} is both relevant and not to {row.query!r}",
                    "give every row of one statement and query the same `relevant`",
                )
    return list(found.values())


def _compared(
    found: np.ndarray,
    labels: Sequence[int],
    rows: Sequence[Row],
    texts: Sequence[str],
    names: Sequence[str],
    embedder: "Embedder | None",
    sure_from: float,
) -> dict[str, Any]:
    """The judge and the baselines on the same rows; baselines never see the row's character.

    With one character alone there is nothing to fit a baseline to but its shares of labels.
    """
    truth = np.array(labels)
    targets = np.eye(len(names))[truth]
    characters = [row.character for row in rows]
    pairs = [Pair(row.character, row.statement, t) for row, t in zip(rows, texts, strict=True)]
    guessed = cross_validated_guesses(Known(pairs, truth), characters, len(names), embedder)
    result: dict[str, Any] = {"judge": agreement(targets, found, sure_from).row()}
    result |= {name: agreement(targets, values).row() for name, values in guessed.items()}
    result["beats_baselines"] = all(is_better(result["judge"], result[name]) for name in guessed)
    return result


def _ranked(
    ranked: Sequence[Row],
    rows: Sequence[Row],
    personas: Mapping[str, Sequence[str]],
    scorer: "Scorer",
) -> list[list[tuple[int, float]]]:
    """(rank, ΔAPC) of the distinct replies of each group."""
    groups: dict[tuple[str, str, str], dict[str, int]] = {}
    for row in ranked:
        replies = groups.setdefault((row.character, str(row.group), row.query), {})
        rank = replies.setdefault(str(row.response), int(row.rank or 0))
        if rank != row.rank:
            raise DataError(f"one reply to {row.query!r} has the ranks {rank} and {row.rank}")
    found = []
    for (character, _, query), replies in groups.items():
        own = dict.fromkeys(row.statement for row in rows if row.character == character)
        statements = personas.get(character) or list(own)
        scores = scorer.score(character, statements, query, list(replies))
        ranks = zip(replies.values(), scores, strict=True)
        found.append([(rank, score.delta) for rank, score in ranks])
    return found
