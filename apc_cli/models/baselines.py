"""What can be had without a judge: word overlap and embedding cosine, fitted to the labels.

A judge that does not beat these tells no more than which words two texts share.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict

from apc_cli.models.embedder import Embedder

_FOLDS = 10
_WORD = re.compile(r"[^\W_]+")


class Pair(NamedTuple):
    """A statement of a character, and the query or the reply that it is compared with."""

    character: str
    statement: str
    text: str


def word_overlap(pairs: Sequence[Pair]) -> np.ndarray:
    """(pairs, 1): the share of the statement's words, without the name, that the text has."""
    return np.array([[_overlap(pair)] for pair in pairs], float)


def embedding_cosine(pairs: Sequence[Pair], embedder: Embedder) -> np.ndarray:
    """(pairs, 2): the cosine of the statement with the text, and the word overlap."""
    texts = list(dict.fromkeys([t for pair in pairs for t in (pair.statement, pair.text)]))
    vectors = dict(zip(texts, embedder.embed(texts), strict=True))
    cosines = [[float(vectors[pair.statement] @ vectors[pair.text])] for pair in pairs]
    return np.hstack([np.array(cosines, float), word_overlap(pairs)])


def cross_validated(
    features: np.ndarray, labels: np.ndarray, groups: Sequence[str], classes: int
) -> np.ndarray:
    """(rows, classes): each row's probabilities by a model fitted to the other groups.

    With fewer than two groups, or labels of one kind alone, the share of each label.
    """
    names = sorted(set(groups))
    if len(names) < 2 or len(set(labels.tolist())) < 2:
        shares = np.bincount(labels, minlength=classes) / len(labels)
        return np.tile(shares, (len(labels), 1))
    found = np.zeros((len(labels), classes))
    folds = GroupKFold(min(_FOLDS, len(names)))
    model = LogisticRegression(max_iter=1000)
    known = np.unique(labels)
    found[:, known] = cross_val_predict(
        model, features, labels, groups=groups, cv=folds, method="predict_proba"
    )
    return found


def _overlap(pair: Pair) -> float:
    name = set(_words(pair.character))
    words = [word for word in _words(pair.statement) if word not in name]
    there = set(_words(pair.text))
    return sum(word in there for word in words) / max(1, len(words))


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())
