"""How perplexity falls as a datastore grows: many sizes from one search.

The whole store is searched for many neighbors, and those of a smaller store are the ones whose documents are in it:
filtering a search is searching what is left, as long as enough of them are left (Shao et al. 2024 subsample so, with
high probability; here the inverted lists and the order are the same, so it is exact). Positions where fewer than k are
left of a search that was full are counted; they are what a deeper search would find more of.

Documents are ordered by their digest, so a smaller store is a part of each larger one, and nobody chose which.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from datastore.records import Neighbors
from datastore.store import Datastore
from silo.documents import Document
from silo.errors import BadRequest
from silo.evaluation.likelihood import N_RESAMPLES, DocumentScore, fresh_contexts
from silo.evaluation.traces import Trace, TraceSettings, grid, nothing_else
from silo.lm import LanguageModel
from silo.tokenizer import tokenize

_AT_ONCE = 256


@dataclass(frozen=True)
class Part:
    """A smaller store within the whole one."""

    documents: frozenset[str]
    n_entries: int


@dataclass(frozen=True)
class Slope:
    """How nats per token change with each doubling of the store."""

    nats_per_doubling: float
    interval: tuple[float, float]
    """95 %, by drawing the documents anew."""
    intercept: float
    """Nats per token at one entry, as the line has it."""

    def at(self, n_entries: int | float) -> float:
        """What the line says of a store of another size; beyond the sizes measured it is an extrapolation."""
        return self.intercept + self.nats_per_doubling * float(np.log2(n_entries))


def parts(store: Datastore, n_entries: Sequence[int]) -> tuple[Part, ...]:
    """Nested parts of at least so many live entries each, the last documents whole; increasing.

    Raises:
        BadRequest: the sizes do not increase, or the store has fewer entries.
    """
    if not n_entries or list(n_entries) != sorted(set(n_entries)) or n_entries[0] < 1:
        raise BadRequest(f"sizes must be increasing numbers of at least 1; got {list(n_entries)}")
    listed = [(document.facts.id, document.facts.digest, document.n_entries) for document in store.documents("live")]
    listed.sort(key=lambda row: hashlib.sha256(f"scaling {row[1]} {row[0]}".encode()).digest())
    totals = np.cumsum([n for _, _, n in listed])
    if not len(totals) or totals[-1] < n_entries[-1]:
        raise BadRequest(f"the store has {totals[-1] if len(totals) else 0:,} entries; asked for {n_entries[-1]:,}")
    found = []
    for size in n_entries:
        n = int(np.searchsorted(totals, size)) + 1
        found.append(Part(frozenset(id_ for id_, _, _ in listed[:n]), int(totals[n - 1])))
    return tuple(found)


class Scaling:
    """Looks at documents with one search for all of ``sizes``."""

    def __init__(
        self, lm: LanguageModel, store: Datastore, sizes: Sequence[Part], settings: TraceSettings, n_searched: int
    ) -> None:
        if n_searched < settings.ks[-1]:
            raise BadRequest(f"the search must be for at least {settings.ks[-1]} neighbors; got {n_searched}")
        self._lm, self._store, self._sizes, self._settings = lm, store, sizes, settings
        self._n_searched = n_searched
        self._first_part: dict[str, int] = {}
        for i, part in reversed(list(enumerate(sizes))):
            self._first_part |= dict.fromkeys(part.documents, i)
        self._epoch = store.epoch
        self._known: dict[int, int] = {-1: len(sizes)}
        self.n_positions = 0
        self.n_short = np.zeros(len(sizes), dtype=np.int64)
        """Positions, by size, where a full search left fewer than k."""

    def look(self, documents: Iterable[Document]) -> Iterator[list[Trace]]:
        """For each document its trace with each size."""
        for document in documents:
            tokens = np.append(tokenize(self._lm.tokenizer, document.text).ids, self._lm.boundary)
            grids: list[list[np.ndarray]] = [[] for _ in self._sizes]
            present: list[list[np.ndarray]] = [[] for _ in self._sizes]
            lm_gold = []
            for start, states in fresh_contexts(self._lm, tokens):
                for first in range(0, len(states), _AT_ONCE):
                    some = states[first : first + _AT_ONCE]
                    gold = tokens[start + first : start + first + len(some)].astype(np.int64)
                    lm_gold.append(self._lm.logprobs(some).cpu().numpy()[np.arange(len(some)), gold])
                    contexts = some.float().cpu().numpy()
                    for i, found in enumerate(self.neighbors(contexts)):
                        grids[i].append(self._grid(found, gold))
                        present[i].append(np.isfinite(found.squared_distances[:, 0]))
            lm = np.concatenate(lm_gold)
            sizes = (len(tokens), len(document.text.encode("utf-8")), len(document.text.split()))
            facts = dict(zip(("lengths", "n_bytes", "n_words"), (np.array([n]) for n in sizes), strict=True))
            facts |= nothing_else(lm) | {"lm_gold": lm}
            yield [
                Trace(knn_gold=np.concatenate(g), has_knn=np.concatenate(p), **facts)
                for g, p in zip(grids, present, strict=True)
            ]

    def neighbors(self, contexts: Float[np.ndarray, "n dimension"]) -> list[Neighbors]:
        """The nearest entries of each context in each of the smaller stores, from one search."""
        found = self._store.search(contexts, self._n_searched, self._settings.n_probe)
        firsts = self._firsts(found)
        self.n_positions += len(contexts)
        is_full = found.entries[:, -1] >= 0
        answers = []
        for i in range(len(self._sizes)):
            is_in = firsts <= i
            # the nearest that are in, in their order, moved to the front
            order = np.argsort(~is_in, axis=1, kind="stable")[:, : self._settings.ks[-1]]
            kept = np.take_along_axis(is_in, order, 1)
            self.n_short[i] += int((is_full & ~kept[:, -1]).sum())
            answers.append(
                Neighbors(
                    np.where(kept, np.take_along_axis(found.squared_distances, order, 1), np.float32(np.inf)),
                    np.where(kept, np.take_along_axis(found.entries, order, 1), -1),
                    np.where(kept, np.take_along_axis(found.values, order, 1), -1),
                    found.epoch,
                )
            )
        return answers

    def _firsts(self, found: Neighbors) -> Int[np.ndarray, "n k"]:
        """The smallest size that has each entry's document; beyond all sizes where none has."""
        entries, inverse = np.unique(found.entries, return_inverse=True)
        unknown = [entry for entry in entries.tolist() if entry not in self._known]
        places = self._store.locate(unknown, found.epoch)
        if places is None or found.epoch != self._epoch:
            raise BadRequest("the store has changed while its sizes were compared; begin again")
        for entry, place in zip(unknown, places, strict=True):
            self._known[entry] = self._first_part.get(place.document, len(self._sizes))
        firsts: np.ndarray = np.array([self._known[entry] for entry in entries.tolist()])
        return firsts[inverse].reshape(found.entries.shape)

    def _grid(self, found: Neighbors, gold: np.ndarray) -> np.ndarray:
        temperature = self._store.manifest.knn_temperature
        return grid(found, gold, self._settings.ks, tuple(temperature * f for f in self._settings.factors))


def slope(n_entries: Sequence[int], scores: Sequence[Sequence[DocumentScore]], seed: int = 0) -> Slope:
    """The line through nats per token against the logarithm of the size, by least squares.

    Raises:
        BadRequest: there are fewer than two sizes.
    """
    if len(set(n_entries)) < 2:
        raise BadRequest(f"a slope needs two sizes; got {list(n_entries)}")
    nats = np.array([[one.nats for one in row] for row in scores])
    n_tokens = np.array([one.n_tokens for one in scores[0]])
    x = np.log2(np.asarray(n_entries, dtype=np.float64))
    weights = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    y = nats.sum(axis=1) / n_tokens.sum()
    drawn = np.random.default_rng(seed).integers(len(n_tokens), size=(N_RESAMPLES, len(n_tokens)))
    resampled = nats[:, drawn].sum(axis=2) / n_tokens[drawn].sum(axis=1)
    low, high = np.quantile(weights @ resampled, [0.025, 0.975])
    per_doubling = float(weights @ y)
    return Slope(per_doubling, (float(low), float(high)), float(y.mean() - per_doubling * x.mean()))
