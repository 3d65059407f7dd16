"""What a store was at one epoch, and the questions that are asked of it there, over all of its segments.

Works on arrays; opens nothing and knows no catalog. An answer over several segments is the one that a single
segment with all of their documents would give: neighbors in the order (squared distance, entry id), counts added up.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from datastore.codecs import KeySpace
from datastore.ngrams import Sequences
from datastore.overlay import NgramsPart, ngrams_parts
from datastore.ranking import Question, rank
from datastore.records import Continuations, Neighbors, Occurrences, Passages, TokenRun
from datastore.redaction import Ranges, merged
from datastore.segments import Segment
from datastore.tallies import summed
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
    holes: list[dict[int, Ranges]] = field(default_factory=list)
    """For each segment, by ordinal: the removed sentences of documents that stay, whose bytes the files still hold."""
    ngrams: list[list[NgramsPart]] = field(default_factory=list)
    """For each segment: what holds its n-grams."""
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

    def take_out(
        self, documents: list[tuple[str, int]], passages: list[tuple[str, int, tuple[int, int]]]
    ) -> "Snapshot":
        """This snapshot without ``documents`` (segment, ordinal) and ``passages`` (the same, and a range)."""
        self.holes = [dict(found) for found in self.holes] or [{} for _ in self.segments]
        touched = set(range(len(self.segments))) if not self.ngrams else set()
        for name, ordinal in documents:
            index = self.layout.index(name)
            touched.add(index)
            self.masks[index].clear(*self.segments[index].span(ordinal))
        for name, ordinal, removed in passages:
            index = self.layout.index(name)
            touched.add(index)
            holes = self.holes[index]
            holes[ordinal] = merged([*holes.get(ordinal, ()), removed])
            self.segments[index].hide(ordinal, holes[ordinal], self.masks[index])
        self.ngrams = list(self.ngrams) or [[] for _ in self.segments]
        for i in touched:
            self.ngrams[i] = ngrams_parts(self.segments[i], self.starts[i], self.masks[i], self.holes[i])
        return self


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
    parts = [(part.view, part.live) for parts in snapshot.ngrams for part in parts]
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
    for part in (part for parts in snapshot.ngrams for part in parts):
        first, last = part.view.ranges(sequence)
        count += int(part.view.counts(first, last, part.live)[0])
        entries.append(part.named(part.view.positions(int(first[0]), int(last[0]), part.live, n)))
    return Occurrences(count, np.sort(np.concatenate(entries))[:n], snapshot.epoch)


def passages(snapshot: Snapshot, question: Question, name: Callable[[str, int], str]) -> Passages:
    """As ``Datastore.passages``; ``name`` tells the id of the document at (segment, ordinal)."""
    views = [segment.passages for segment in snapshot.segments]
    numbers, scores = rank(list(zip(views, snapshot.masks, strict=True)), question)
    starts = np.cumsum([0, *(view.n_passages for view in views)])
    indices = np.searchsorted(starts, numbers, side="right") - 1
    found = [
        snapshot.segments[i].passage(n, snapshot.holes[i])
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


def longest_run(snapshot: Snapshot, tokens: NDArray[np.int64], n: int) -> TokenRun:
    """As ``Datastore.longest_run``: every prefix is asked for its longest suffix."""
    ends = np.arange(1, len(tokens) + 1)
    prefixes = Sequences(np.append(tokens, 0), ends, ends)
    lengths = np.zeros(len(tokens), dtype=np.int64)
    for part in (part for parts in snapshot.ngrams for part in parts):
        lengths = np.maximum(lengths, part.view.longest(prefixes, part.live))
    stop = int(lengths.argmax()) + 1 if lengths.any() else 0
    start = stop - int(lengths[stop - 1]) if stop else 0
    found = occurrences(snapshot, Sequences.of([tokens[start:stop]]), n)
    return TokenRun(start, stop, found.count, found.entries, snapshot.epoch)
