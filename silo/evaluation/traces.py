"""One pass over a document: what the LM, the neighbors and the suffixes gave to each token that came.

Everything that is tuned or fitted later (k, temperatures, shares, a gate) is computed from a trace, without the LM and
without a search. Only the probability of the token that came is kept, so a token costs a few hundred bytes, and no
pass over the vocabulary is made but the LM's own.

The grid over k and temperature costs one exponential a neighbor: temperatures are a factor of two apart, so the
weights at half a temperature are those at the whole one squared; and sums to each k are sums of segments.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from datastore.records import Neighbors
from datastore.store import Datastore
from silo.documents import Document
from silo.errors import BadRequest
from silo.evaluation.kept import keep, kept
from silo.evaluation.likelihood import DocumentScore, fresh_contexts
from silo.evidence import Components, evidence, feature_names, gold_probabilities
from silo.lm import LanguageModel
from silo.recent import features_after, no_outcomes, outcomes
from silo.tokenizer import tokenize

_AT_ONCE = 512
"""Positions that are searched and scored together."""


@dataclass(frozen=True)
class TraceSettings:
    """What a pass looks at."""

    components: Components = Components()  # noqa: RUF009, frozen
    ks: tuple[int, ...] = (8, 16, 32, 64, 128)
    """Increasing: numbers of neighbors of the grid; the last is what is searched."""
    factors: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
    """Increasing, each twice the one before: temperatures of the grid, as multiples of the store's."""
    n_probe: int = 16
    is_knn_only: bool = False
    """Leave out suffixes and the features of a gate, where only neighbors are measured."""

    def __post_init__(self) -> None:
        if list(self.ks) != sorted(set(self.ks)) or not self.ks or self.ks[0] < 1:
            raise BadRequest(f"ks must be increasing numbers of at least 1; got {self.ks}")
        if any(2 * a != b for a, b in zip(self.factors, self.factors[1:], strict=False)) or not self.factors:
            raise BadRequest(f"factors must each be twice the one before; got {self.factors}")


@dataclass(frozen=True)
class Trace:
    """What was seen of *n* tokens: of one document, or of several end to end."""

    lm_gold: Float[np.ndarray, " n"]
    """Natural log of the LM's probability of each token that came."""
    knn_gold: Float[np.ndarray, "n k t"]
    """p_kNN of it for each of the grid's k and temperatures."""
    has_knn: Bool[np.ndarray, " n"]
    """Whether there was any neighbor."""
    gold: Float[np.ndarray, "n c"]
    """What each component gave to it."""
    features: Float[np.ndarray, "n f"]
    is_present: Bool[np.ndarray, "n c"]
    lengths: Int[np.ndarray, " d"]
    """Tokens of each document, its end included."""
    n_bytes: Int[np.ndarray, " d"]
    """Of each document's text in UTF-8."""
    n_words: Int[np.ndarray, " d"]
    """Of each document's text, between white space."""

    @property
    def documents(self) -> Int[np.ndarray, " n"]:
        """The number of each token's document."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    def scores(self, logprobs: Float[np.ndarray, " n"]) -> list[DocumentScore]:
        """What ``logprobs`` of the tokens come to, by document; documents are named by their number."""
        nats = -np.add.reduceat(logprobs.astype(np.float64), np.cumsum(self.lengths) - self.lengths)
        columns = (nats.tolist(), self.lengths.tolist(), self.n_bytes.tolist(), self.n_words.tolist())
        return [DocumentScore(str(i), *row) for i, row in enumerate(zip(*columns, strict=True))]


def joined(traces: list[Trace]) -> Trace:
    """Several traces as one. Raises BadRequest where there are none."""
    if not traces:
        raise BadRequest("there is no document to look at; expected at least one")
    return Trace(*(np.concatenate([getattr(trace, item.name) for trace in traces]) for item in fields(Trace)))


def trace(lm: LanguageModel, store: Datastore | None, document: Document, settings: TraceSettings) -> Trace:
    """Read ``document`` as it is encoded: alone, in windows that overlap by half, its end predicted too.

    Without a store there is only the LM.
    """
    tokens = np.append(tokenize(lm.tokenizer, document.text).ids, lm.boundary)
    parts: list[dict[str, np.ndarray]] = []
    before = no_outcomes(len(settings.components.limits))
    for start, states in fresh_contexts(lm, tokens):
        for first in range(0, len(states), _AT_ONCE):
            some = states[first : first + _AT_ONCE]
            at = start + first
            logprobs = lm.logprobs(some).cpu().numpy()
            seen, before = _seen(store, settings, tokens, at, some.float().cpu().numpy(), logprobs, before)
            parts.append(seen)
    found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    sizes = (len(tokens), len(document.text.encode("utf-8")), len(document.text.split()))
    lengths, n_bytes, n_words = (np.array([size]) for size in sizes)
    return Trace(**found, lengths=lengths, n_bytes=n_bytes, n_words=n_words)


def grid(
    neighbors: Neighbors, gold: Int[np.ndarray, " n"], ks: tuple[int, ...], temperatures: tuple[float, ...]
) -> Float[np.ndarray, "n k t"]:
    """p_kNN(gold) for the nearest k of each of ``ks``, and each temperature, twice the one before."""
    distances = neighbors.squared_distances[:, : ks[-1]]
    is_gold = neighbors.values[:, : ks[-1]] == gold[:, None]
    nearest = np.where(np.isfinite(distances[:, :1]), distances[:, :1], 0)
    weights = np.exp((nearest - distances) / np.float32(temperatures[-1]))
    bounds = [0, *(k for k in ks[:-1] if k < distances.shape[1])]
    found = np.zeros((len(gold), len(ks), len(temperatures)), dtype=np.float32)
    for column in range(len(temperatures) - 1, -1, -1):
        total = np.add.reduceat(weights, bounds, axis=1).cumsum(axis=1)
        hits = np.add.reduceat(weights * is_gold, bounds, axis=1).cumsum(axis=1)
        shares = np.divide(hits, total, out=np.zeros_like(hits), where=total > 0)
        found[:, : len(bounds), column] = shares
        found[:, len(bounds) :, column] = shares[:, -1:]  # a k beyond what was searched is all of it
        np.square(weights, out=weights)
    return found


def traces(
    lm: LanguageModel,
    store: Datastore | None,
    documents: Iterator[Document],
    settings: TraceSettings,
    cache: Path | None = None,
) -> Iterator[Trace]:
    """The trace of each of ``documents``, from ``cache`` where it was made before, by the content of all that made it.

    Traces of earlier states of the store are taken away: they were made with documents that may be removed since.
    """
    if cache is None:
        yield from (trace(lm, store, document, settings) for document in documents)
        return
    folder = _folder(cache, lm, store, settings)
    for document in documents:
        path = folder / f"{document.digest}.safetensors"
        found = kept(path, Trace)
        if found is None:
            found = trace(lm, store, document, settings)
            keep(path, found)
        yield found


def _seen(
    store: Datastore | None,
    settings: TraceSettings,
    tokens: np.ndarray,
    start: int,
    contexts: np.ndarray,
    logprobs: np.ndarray,
    before: np.ndarray,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The arrays of the tokens from ``start`` on, one for each of ``contexts``.

    ``before`` are the outcomes of the suffixes before ``start``; those before the token after come with the arrays.
    """
    components = settings.components
    n = len(contexts)
    gold = tokens[start : start + n].astype(np.int64)
    lm_gold = logprobs[np.arange(n), gold]
    neighbors = following = recent = None
    temperature = 1.0
    knn_gold = np.zeros((n, len(settings.ks), len(settings.factors)), dtype=np.float32)
    if store is not None:
        temperature = store.manifest.knn_temperature
        neighbors = store.search(contexts, settings.ks[-1], settings.n_probe)
        knn_gold = grid(neighbors, gold, settings.ks, tuple(temperature * f for f in settings.factors))
        if not settings.is_knn_only:
            longest = max(components.limits)
            contexts_before = [tokens[max(0, i - longest) : i] for i in range(start, start + n)]
            following = store.continuations(contexts_before, components.limits)
            recent, before = features_after(before, outcomes(following, gold))
    has_knn = np.zeros(n, bool) if neighbors is None else np.isfinite(neighbors.squared_distances[:, 0])
    seen = {"lm_gold": lm_gold, "knn_gold": knn_gold, "has_knn": has_knn}
    if settings.is_knn_only:
        return seen | nothing_else(lm_gold), before
    known = evidence(components, logprobs, neighbors, following, temperature, recent)
    given = gold_probabilities(components, gold, lm_gold, neighbors, following, temperature)
    found = {"gold": given.astype(np.float32), "features": known.features, "is_present": known.is_present}
    return seen | found, before


def nothing_else(lm_gold: Float[np.ndarray, " n"]) -> dict[str, np.ndarray]:
    """The arrays of a trace that has only the LM and the grid."""
    n = len(lm_gold)
    gold, is_present = np.exp(lm_gold)[:, None].astype(np.float32), np.ones((n, 1), dtype=bool)
    return {"gold": gold, "features": np.zeros((n, 0), np.float32), "is_present": is_present}


def folder_of(cache: Path, store: Datastore | None) -> Path:
    """Where ``cache`` keeps what is made with ``store`` as it is now; what was made before it changed is taken away."""
    named = "lm" if store is None else f"{store.id}-{store.epoch}"
    if store is not None and cache.exists():
        for other in cache.glob(f"{store.id}-*"):
            if other.name != named:
                for path in sorted(other.rglob("*"), reverse=True):
                    path.rmdir() if path.is_dir() else path.unlink()
                other.rmdir()
    return cache / named


def _folder(cache: Path, lm: LanguageModel, store: Datastore | None, settings: TraceSettings) -> Path:
    made_of = json.dumps([lm.fingerprint, asdict(settings), feature_names(settings.components)], sort_keys=True)
    return folder_of(cache, store) / hashlib.sha256(made_of.encode()).hexdigest()[:16]
