"""What a gate may know of a position before it trusts anyone: features that cost next to nothing.

Pure functions on arrays, over *n* positions at once; one position in decoding, hundreds in evaluation, by the same
code. Knows neither models nor stores: it reads the LM's log-probabilities, what a search returned, and what followed
the last tokens in the store.

The mixture has one component for the LM, one for the neighbors at each of several temperatures, and one for each
limit to which the context's last tokens are looked up:

    p(y) = w_0 p_LM(y) + Σ_t w_t p_kNN,t(y) + Σ_m w_m c_m(y) / C_m

``Components`` says in which order the weights stand. A component that has nothing to say (no neighbor, no occurrence)
is absent, and its weight is zero.

Why no feature is an absolute distance or a count that grows with the store without a logarithm: the gate is fitted on
licensed text with a store of licensed text, and must hold for stores of other text and other sizes.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from datastore.records import Continuations, Neighbors
from silo.recent import gold_counts, recent_names

NEAREST = 32
"""Neighbors that features are made of, of those that take part: the rest say little more, and cost as much each."""
_TINY = 1e-10


@dataclass(frozen=True)
class Components:
    """What is mixed, and in which columns."""

    k: int = 128
    """Neighbors per position that take part."""
    temperatures: tuple[float, ...] = (0.25, 1.0, 4.0)
    """Of p_kNN, as multiples of the temperature that was fitted with the store."""
    limits: tuple[int, ...] = (32, 4, 2)
    """For `Datastore.continuations`: the longest suffix first."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the columns: ``lm``, ``knn@TEMPERATURE`` …, ``ngram@LIMIT`` …"""
        knn = (f"knn@{temperature:g}" for temperature in self.temperatures)
        return ("lm", *knn, *(f"ngram@{limit}" for limit in self.limits))

    @property
    def knn(self) -> slice:
        """Columns of the neighbors, one for each temperature."""
        return slice(1, 1 + len(self.temperatures))

    @property
    def ngram(self) -> slice:
        """Columns of the suffixes, one for each limit."""
        return slice(1 + len(self.temperatures), len(self))

    def __len__(self) -> int:
        return 1 + len(self.temperatures) + len(self.limits)


@dataclass(frozen=True)
class Evidence:
    """What is known of each of *n* positions."""

    features: Float[np.ndarray, "n f"]
    """In the order of `feature_names`."""
    is_present: Bool[np.ndarray, "n c"]
    """Which components have something to say; the LM always has."""


def feature_names(components: Components) -> tuple[str, ...]:
    """What the columns of the features are; a gate is refused where they are not the ones that it was fitted on."""
    names = [
        "lm entropy",
        "lm max",
        "knn nearest",
        "knn spread",
        "knn entropy",
        "knn max",
        "knn distinct",
        "knn top lm",
    ]
    names += ["knn top is lm top", "ngram length"]
    for limit in components.limits:
        names += [f"ngram@{limit} {what}" for what in ("count", "distinct", "max", "top lm", "top knn")]
        names += [f"ngram@{limit} top is {whose} top" for whose in ("lm", "knn")]
    return (*names, *recent_names(components.limits))


def evidence(
    components: Components,
    lm_logprobs: Float[np.ndarray, "n vocabulary"],
    neighbors: Neighbors | None,
    following: Continuations | None,
    knn_temperature: float,
    recent: Float[np.ndarray, "n r"] | None = None,
) -> Evidence:
    """The features of *n* positions, and which components are present.

    ``neighbors`` may hold more than ``components.k`` for each position; the nearest are taken. ``following`` is what
    `Datastore.continuations` gave for ``components.limits``, and ``recent`` are the features of ``silo.recent``; both
    are given, or none. None leaves a kind of retrieval out.
    """
    n = len(lm_logprobs)
    columns: list[np.ndarray] = []
    lm_top = lm_logprobs.argmax(axis=1)
    rows = np.arange(n)
    columns.append(-(np.exp(lm_logprobs) * np.maximum(lm_logprobs, -50.0)).sum(axis=1))
    columns.append(lm_logprobs[rows, lm_top])
    is_present = np.zeros((n, len(components)), dtype=bool)
    is_present[:, 0] = True

    shares, values = np.zeros((n, 1)), np.full((n, 1), -1, dtype=np.int64)
    knn_top = np.full(n, -1, dtype=np.int64)
    if neighbors is None or neighbors.values.shape[1] == 0:
        columns += [np.zeros(n)] * 7
    else:
        nearest_few = slice(min(components.k, NEAREST))
        distances, values = neighbors.squared_distances[:, nearest_few], neighbors.values[:, nearest_few]
        has_knn = np.isfinite(distances[:, 0])
        is_present[:, components.knn] = has_knn[:, None]
        shares = neighbor_shares(distances, knn_temperature)
        knn_top, knn_max, entropy, distinct = _summary(values, shares)
        nearest = np.where(has_knn, distances[:, 0], 0.0) / knn_temperature
        furthest = np.where(np.isfinite(distances), distances, 0.0).max(axis=1) / knn_temperature
        top_lm = lm_logprobs[rows, np.maximum(knn_top, 0)]
        columns += [np.log1p(nearest), np.log1p(furthest - nearest), entropy, knn_max, np.log1p(distinct)]
        columns += [np.where(has_knn, top_lm, 0.0), has_knn & (knn_top == lm_top)]

    if following is None:
        columns += [np.zeros(n)] * (1 + 7 * len(components.limits))
    else:
        is_present[:, components.ngram] = following.counts > 0
        columns.append(np.log1p(following.lengths[:, 0]))
        tops, most = _likeliest(following)
        distinct = np.diff(following.bounds).reshape(n, -1)
        for m in range(len(components.limits)):
            there, count, top = following.counts[:, m] > 0, following.counts[:, m], tops[:, m]
            columns += [np.log1p(count), np.log1p(distinct[:, m]), most[:, m] / np.maximum(count, 1)]
            columns.append(np.where(there, lm_logprobs[rows, np.maximum(top, 0)], 0.0))
            columns.append(np.where(there[:, None] & (values == top[:, None]), shares, 0.0).sum(axis=1))
            columns += [there & (top == lm_top), there & (top == knn_top)]
    known = np.stack(columns, axis=1).astype(np.float32)
    if recent is None:
        recent = np.zeros((n, len(recent_names(components.limits))))
    return Evidence(np.concatenate([known, recent.astype(np.float32)], axis=1), is_present)


def without(known: Evidence, components: Components, kind: str) -> Evidence:
    """``known`` as it would be without one kind of retrieval, ``knn`` or ``ngram``."""
    is_left = np.array([kind not in name for name in feature_names(components)])
    is_present = known.is_present & np.array([not name.startswith(kind) for name in components.names])
    return Evidence(np.where(is_left, known.features, np.float32(0)), is_present)


def neighbor_shares(squared_distances: Float[np.ndarray, "n k"], temperature: float) -> Float[np.ndarray, "n k"]:
    """Each neighbor's share of p_kNN, rows that sum to one; zero for one that is missing (infinitely far).

    Rows are in order, nearest first.
    """
    nearest = squared_distances[:, :1].astype(np.float64)
    nearest = np.where(np.isfinite(nearest), nearest, 0.0)
    shares = np.exp((nearest - squared_distances) / temperature)
    total = shares.sum(axis=1, keepdims=True)
    return np.divide(shares, total, out=np.zeros_like(shares), where=total > 0)


def gold_probabilities(
    components: Components,
    gold: Int[np.ndarray, " n"],
    lm_gold: Float[np.ndarray, " n"],
    neighbors: Neighbors | None,
    following: Continuations | None,
    knn_temperature: float,
) -> Float[np.ndarray, "n c"]:
    """What each component gives to the token that came; zero where it is absent. ``lm_gold`` are log-probabilities."""
    found = np.zeros((len(gold), len(components)))
    found[:, 0] = np.exp(lm_gold.astype(np.float64))
    if neighbors is not None and neighbors.values.shape[1]:
        is_gold = neighbors.values[:, : components.k] == gold[:, None]
        for column, factor in enumerate(components.temperatures, start=1):
            shares = neighbor_shares(neighbors.squared_distances[:, : components.k], factor * knn_temperature)
            found[:, column] = (shares * is_gold).sum(axis=1)
    if following is not None:
        found[:, components.ngram] = gold_counts(following, gold) / np.maximum(following.counts, 1)
    return found


def _summary(
    values: Int[np.ndarray, "n k"], shares: Float[np.ndarray, "n k"]
) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"], Float[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Of p_kNN over tokens, for each row: the likeliest token (-1 without any), its share, entropy, and support."""
    n, k = values.shape
    order = np.argsort(values, axis=1, kind="stable")
    sorted_values = np.take_along_axis(values, order, 1)
    sorted_shares = np.take_along_axis(shares, order, 1).ravel()
    is_first = np.ones((n, k), dtype=bool)
    is_first[:, 1:] = sorted_values[:, 1:] != sorted_values[:, :-1]
    starts = np.flatnonzero(is_first)
    sums = np.add.reduceat(sorted_shares, starts)
    entropies = -sums * np.log(np.maximum(sums, _TINY))
    counts = is_first.sum(axis=1)
    firsts = np.cumsum(counts) - counts
    top = np.maximum.reduceat(sums, firsts)
    is_top = np.flatnonzero(sums == np.repeat(top, counts))
    tops = is_top[np.searchsorted(is_top, firsts)]  # the lowest token among equals
    return (
        np.where(top > 0, sorted_values.ravel()[starts[tops]], -1),
        top,
        np.add.reduceat(entropies, firsts),
        np.add.reduceat((sums > 0).astype(np.int64), firsts),
    )


def _likeliest(following: Continuations) -> tuple[Int[np.ndarray, "n m"], Int[np.ndarray, "n m"]]:
    """The token that followed most often at each limit, the lowest among equals, and how often; -1 and 0 without."""
    shape = following.counts.shape
    tokens, most = np.full(following.counts.size, -1, dtype=np.int64), np.zeros(following.counts.size, dtype=np.int64)
    sizes = np.diff(following.bounds)
    there = np.flatnonzero(sizes)
    if len(there):
        keys = (following.token_counts << 32) | (0xFFFFFFFF - following.tokens)
        best = np.maximum.reduceat(keys, following.bounds[:-1][there])
        tokens[there], most[there] = 0xFFFFFFFF - (best & 0xFFFFFFFF), best >> 32
    return tokens.reshape(shape), most.reshape(shape)
