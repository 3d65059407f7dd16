"""What a store was at one epoch, and the questions that are asked of it there, over all of its segments.

Works on arrays; opens nothing and knows no catalog. An answer over several segments is the one that a single
segment with all of their documents would give: neighbors in the order (squared distance, entry id), counts added up.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from datastore.codecs import KeySpace
from datastore.ngrams import Sequences, summed
from datastore.ranking import Question, rank
from datastore.records import Continuations, Neighbors, Occurrences, Passages
from datastore.segments import Segment
from datastore.views import LiveMask


@dataclass
class Snapshot:
    """The store at one epoch. Masks only ever lose entries; a search that overlaps such a loss is done again."""

    epoch: int
    layout: tuple[str, ...]
    segments: list[Segment]
    starts: list[int]
    """First entry id of each segment."""
    masks: list[LiveMask]
    names: dict[tuple[str, int], str] = field(default_factory=dict)
    """(segment, ordinal) -> document id, filled as asked."""
    _counted: tuple[list[int], int] = field(default_factory=lambda: ([], 0))
    """Versions of the masks and what was counted under them."""

    def n_live(self) -> int:
        """How many entries may be served: a function of the documents that are live, and of nothing else."""
        versions = [mask.version for mask in self.masks]
        counted, n = self._counted
        if counted != versions:
            n = sum(segment.n_live(mask) for segment, mask in zip(self.segments, self.masks, strict=True))
            self._counted = (versions, n)
        return n


def search(snapshot: Snapshot, space: KeySpace, queries: NDArray[np.float32], k: int, n_probe: int) -> Neighbors:
    """As ``Datastore.search``: each segment is searched, and what they find is merged."""
    usable: NDArray[np.bool_] = np.asarray(np.isfinite(queries).all(axis=1))
    if not usable.all():
        queries = np.where(usable[:, None], queries, np.float32(0))
    queries = space.project(queries)
    parts = [
        _search_segment(segment, start, mask, queries, k, n_probe)
        for segment, start, mask in zip(snapshot.segments, snapshot.starts, snapshot.masks, strict=True)
    ]
    if len(parts) == 1:
        distances, entries, values = parts[0]
    else:
        nothing = np.full((len(queries), k), -1, np.int64)
        distances = np.concatenate([np.full_like(nothing, np.inf, np.float32), *(part[0] for part in parts)], axis=1)
        entries = np.concatenate([nothing, *(part[1] for part in parts)], axis=1)
        values = np.concatenate([nothing, *(part[2] for part in parts)], axis=1)
        order = np.lexsort((entries, distances))[:, :k]
        distances = np.take_along_axis(distances, order, 1)
        entries, values = np.take_along_axis(entries, order, 1), np.take_along_axis(values, order, 1)
    if not usable.all():
        distances[~usable], entries[~usable], values[~usable] = np.inf, -1, -1
    return Neighbors(distances, entries, values, snapshot.epoch)


def _search_segment(
    segment: Segment, start: int, mask: LiveMask, queries: NDArray[np.float32], k: int, n_probe: int
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Distances, entry ids and values, ``(q, k)``; -1 where there are fewer."""
    distances, positions = segment.keys.search(queries, k, n_probe, mask)
    values = segment.tokens[positions + 1].astype(np.int64)
    missing = positions < 0
    if missing.any():
        values[missing] = -1
        return distances, np.where(missing, -1, positions + start), values
    return distances, positions + start, values


def continuations(snapshot: Snapshot, contexts: Sequences, limits: NDArray[np.int64]) -> Continuations:
    """As ``Datastore.continuations``: lengths are the longest of all segments, counts add up."""
    parts = [(segment.ngrams, mask) for segment, mask in zip(snapshot.segments, snapshot.masks, strict=True)]
    longest = [view.longest(contexts, mask) for view, mask in parts]
    lengths = np.minimum(np.max([np.zeros_like(contexts.lengths), *longest], axis=0)[:, None], limits)
    suffixes = contexts.last(lengths)
    counts = np.zeros(lengths.size, dtype=np.int64)
    tallies = []
    for (view, mask), found in zip(parts, longest, strict=True):
        here = np.flatnonzero((found[:, None] >= lengths) & (lengths > 0))  # elsewhere the suffix occurs not at all
        first, last = view.ranges(suffixes.rows(here))
        counts[here] += view.counts(first, last, mask)
        rows, tokens, token_counts = view.tally(first, last, mask)
        tallies.append((here[rows], tokens, token_counts))
    rows, tokens, token_counts = summed(tallies)
    bounds = np.searchsorted(rows, np.arange(lengths.size + 1))
    return Continuations(lengths, counts.reshape(lengths.shape), bounds, tokens, token_counts, snapshot.epoch)


def occurrences(snapshot: Snapshot, sequence: Sequences, n: int) -> Occurrences:
    """As ``Datastore.occurrences``."""
    count = 0
    entries = [np.empty(0, np.int64)]
    for segment, start, mask in zip(snapshot.segments, snapshot.starts, snapshot.masks, strict=True):
        first, last = segment.ngrams.ranges(sequence)
        count += int(segment.ngrams.counts(first, last, mask)[0])
        entries.append(start + segment.ngrams.positions(int(first[0]), int(last[0]), mask, n))
    return Occurrences(count, np.concatenate(entries)[:n], snapshot.epoch)


def passages(snapshot: Snapshot, question: Question, name: Callable[[str, int], str]) -> Passages:
    """As ``Datastore.passages``; ``name`` tells the id of the document at (segment, ordinal)."""
    views = [segment.passages for segment in snapshot.segments]
    numbers, scores = rank(list(zip(views, snapshot.masks, strict=True)), question)
    starts = np.cumsum([0, *(view.n_passages for view in views)])
    indices = np.searchsorted(starts, numbers, side="right") - 1
    found = [
        snapshot.segments[i].passage(n)
        for i, n in zip(indices.tolist(), (numbers - starts[indices]).tolist(), strict=True)
    ]
    return Passages(
        tuple(name(snapshot.segments[i].name, p.ordinal) for i, p in zip(indices.tolist(), found, strict=True)),
        np.array([p.number for p in found], dtype=np.int64),
        np.array([p.sentences for p in found], dtype=np.int64).reshape(-1, 2),
        np.array([p.characters for p in found], dtype=np.int64).reshape(-1, 2),
        scores,
        snapshot.epoch,
    )
