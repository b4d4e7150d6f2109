"""What can be had without a judge: word overlap and embedding cosine, fitted to the labels.

A judge that does not beat these tells no more than which words two texts share.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from apc_cli.errors import ConfigError
from apc_cli.models.judging.embedder import Embedder

if TYPE_CHECKING:
    from apc_cli.progress import Progress

_FOLDS = 10
_WORD = re.compile(r"[^\W_]+")


class Pair(NamedTuple):
    """A statement of a character, and the query or the reply that it is compared with."""

    character: str
    statement: str
    text: str


class Known(NamedTuple):
    """Pairs whose labels a baseline may learn from, and the number of each one's label."""

    pairs: Sequence[Pair]
    labels: np.ndarray


def cross_validated_guesses(
    known: Known, groups: Sequence[str], classes: int, embedder: Embedder | None
) -> dict[str, np.ndarray]:
    """(pairs, classes) by each baseline; what guesses a row was fitted to the other groups' rows.

    Without an embedder, by word overlap alone.
    """
    return {
        name: cross_validated(values, known.labels, groups, classes)
        for name, values in _features(known.pairs, embedder).items()
    }


def guesses(
    known: Known, pairs: Sequence[Pair], classes: int, embedder: Embedder | None
) -> dict[str, np.ndarray]:
    """(pairs, classes) by each baseline, fitted to what is known.

    Without an embedder, by word overlap alone.
    """
    learnt = _features(known.pairs, embedder)
    return {
        name: _fitted(learnt[name], known.labels, values, classes)
        for name, values in _features(pairs, embedder).items()
    }


def installed_embedder(progress: "Progress", device: str = "auto") -> Embedder | None:
    """None, and a word about it, where the embedding model is not installed."""
    try:
        return Embedder(device=device)
    except ConfigError as error:
        progress.say(f"no embedding baseline: {error} — {error.hint}")
        return None


def word_overlap(pairs: Sequence[Pair]) -> np.ndarray:
    """(pairs, 1): the share of the statement's words, without the name, that the text has."""
    return np.array([[_overlap(pair)] for pair in pairs], float)


def embedding_cosine(pairs: Sequence[Pair], embedder: Embedder) -> np.ndarray:
    """(pairs, 1): the cosine of the statement with the text."""
    texts = list(dict.fromkeys([t for pair in pairs for t in (pair.statement, pair.text)]))
    vectors = dict(zip(texts, embedder.embed(texts), strict=True))
    return np.array([[float(vectors[pair.statement] @ vectors[pair.text])] for pair in pairs])


def cross_validated(
    features: np.ndarray, labels: np.ndarray, groups: Sequence[str], classes: int
) -> np.ndarray:
    """(rows, classes): each row's probabilities by a model fitted to the other groups.

    With one group alone, the share of each label.
    """
    found = np.zeros((len(labels), classes))
    number = len(set(groups))
    if number < 2:
        found[:] = _shares(labels, classes)
        return found
    for rest, fold in GroupKFold(min(_FOLDS, number)).split(features, labels, groups):
        found[fold] = _fitted(features[rest], labels[rest], features[fold], classes)
    return found


def _features(pairs: Sequence[Pair], embedder: Embedder | None) -> dict[str, np.ndarray]:
    features = {"word overlap": word_overlap(pairs)}
    if embedder:
        features["embedding cosine"] = embedding_cosine(pairs, embedder)
    return features


def _fitted(
    known: np.ndarray, labels: np.ndarray, features: np.ndarray, classes: int
) -> np.ndarray:
    """(rows of `features`, classes) by a model of what is known.

    Where that has fewer than two labels to tell apart, the share of each label.
    """
    found = np.zeros((len(features), classes))
    there = np.unique(labels)
    if len(there) < 2:
        found[:] = _shares(labels, classes)
    else:  # scaled, so that the penalty is as small for cosines as it is for shares of words
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        found[:, there] = model.fit(known, labels).predict_proba(features)
    return found


def _shares(labels: np.ndarray, classes: int) -> np.ndarray:
    return np.bincount(labels, minlength=classes) / len(labels)


def _overlap(pair: Pair) -> float:
    name = set(_words(pair.character))
    words = [word for word in _words(pair.statement) if word not in name]
    there = set(_words(pair.text))
    return sum(word in there for word in words) / max(1, len(words))


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())
