"""What a datastore needs to have fitted before it may hold anything, fitted on licensed text alone.

Coarse centroids are made from the keys gathered here, and the kNN temperature is tuned here. Nothing that search
or mixing depends on is fitted on text that can be removed: a trace of it would stay.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch

from datastore.codecs import Codec, KeySpace, fit_space
from datastore.errors import BadArrays
from datastore.exact import ExactView
from datastore.records import DocumentFacts
from datastore.views import LiveMask
from silo.documents import Document
from silo.encoding import encode_document, facts_of
from silo.errors import BadDocument
from silo.licenses import RiskClass, classify
from silo.lm import LanguageModel
from silo.mixture import neighbor_logprobs

KEYS_PER_LIST = 40
_MAX_CHARACTERS = 2000
"""Of each document: many documents teach the centroids more than much of one."""
_N_QUERIES = 256
_N_STORED = 8192
_K = 32
_WEIGHT = 0.5


@dataclass(frozen=True)
class Fit:
    """Licensed keys and what was tuned on licensed text."""

    keys: np.ndarray
    """``(m, d)``, float16."""
    knn_temperature: float
    documents: tuple[DocumentFacts, ...]
    """Every document that took part."""


def fit(
    lm: LanguageModel,
    licensed: Iterable[Document],
    n_lists: int,
    codec: Codec = Codec(),  # noqa: B008, frozen
) -> Fit:
    """Gather ``KEYS_PER_LIST`` keys a list from the beginnings of ``licensed``, in order; tune tau for ``codec``.

    Raises:
        BadDocument: a document is high-risk.
        BadArrays: the text gives fewer keys than there are lists.
    """
    keys: list[np.ndarray] = []
    values: list[np.ndarray] = []
    documents: list[DocumentFacts] = []
    n_keys = 0
    for document in licensed:
        decision = classify(document.license)
        if decision.risk is RiskClass.HIGH_RISK:
            raise BadDocument(
                f"document {document.id!r} is high-risk: {decision.reason}. Centroids and temperature are fitted "
                "on licensed text only; take it out of --licensed."
            )
        opening = Document(document.id, document.text[:_MAX_CHARACTERS], document.license)
        encoded = encode_document(lm, opening)
        keys.append(encoded.keys)
        values.append(encoded.tokens[1:])
        documents.append(facts_of(document))
        n_keys += len(encoded.keys)
        if n_keys >= n_lists * KEYS_PER_LIST:
            break
    if n_keys < n_lists:
        raise BadArrays(
            f"{n_lists} inverted lists need at least as many licensed tokens; --licensed gave {n_keys}. "
            "Add licensed text, or ask for fewer --lists."
        )
    space = fit_space(np.concatenate(keys), 1, codec)
    return Fit(np.concatenate(keys), fit_temperature(lm, keys, values, space), tuple(documents))


def interleave(sources: list[Iterable[Document]]) -> Iterable[Document]:
    """One document of each source in turn, so that a sample from the beginning has all of them."""
    running = [iter(source) for source in sources]
    while running:
        for source in list(running):
            found = list(islice(source, 1))
            yield from found
            if not found:
                running.remove(source)


def fit_temperature(lm: LanguageModel, keys: list[np.ndarray], values: list[np.ndarray], space: KeySpace) -> float:
    """The tau that best predicts every second document from the others, mixed half and half with the LM.

    ``keys`` ``(n, d)`` and ``values`` ``(n,)`` are given by document. Distances are those of a store: from a
    projected query to a projected key as its codec leaves it. Candidates are powers of two times the median squared
    distance to the nearest neighbor.
    """
    asked = range(1, len(keys), 2)
    if not asked:
        return 1.0
    stored = np.concatenate(keys[::2])[:_N_STORED]
    followed = np.concatenate(values[::2])[:_N_STORED]
    queries, gold = np.concatenate([keys[i] for i in asked]), np.concatenate([values[i] for i in asked])
    if not len(stored) or not len(queries):
        return 1.0
    rows = np.linspace(0, len(queries) - 1, min(_N_QUERIES, len(queries))).astype(int)
    queries, gold = queries[rows].astype(np.float32), gold[rows]
    view = ExactView(space.coded(space.project(stored)), np.arange(len(stored)))
    distances, positions = view.search(space.project(queries), min(_K, len(stored)), 1, LiveMask.all(len(stored)))
    logprobs = lm.logprobs(torch.from_numpy(queries).to(lm.device)).cpu().numpy()
    lm_gold = np.exp(logprobs[np.arange(len(gold)), gold].astype(np.float64))
    is_gold = followed[positions] == gold[:, None]
    scale = float(np.median(distances[:, 0])) or 1.0

    def score(temperature: float) -> float:
        shares = np.stack([np.exp(neighbor_logprobs(row, temperature)) for row in distances])
        knn_gold = (shares * is_gold).sum(axis=1)
        return float(np.log((1 - _WEIGHT) * lm_gold + _WEIGHT * knn_gold + 1e-12).mean())

    return max((scale * 2.0**power for power in range(-6, 4)), key=score)
