"""The ``ngrams`` view: the longest run of a context's last tokens that occurs in a segment, and what followed it.

Works on token arrays and positions; knows no documents but where they begin, and nothing of text. This is the
∞-gram of Liu et al. (2024), over the *entries* of a segment: position *p* stands for the tokens of its document
up to *p*, and has the token at *p + 1* as its value. Hence two rules:

- A match never crosses into another document: what lies before its first token is nothing.
- The last token of a document, its end of text, is a value and never a key. So every occurrence has one
  continuation, and a sequence that ends with an end-of-text token, or has one inside, occurs nowhere.

``ngrams.npy`` ``(entries,)``, int32: the positions that have an entry, ordered by their tokens read *backward*,
where a run that ends at the start of its document comes before those that go on. It is the suffix array of the
reversed text. So the entries that share a context's last *m* tokens lie side by side for every *m*, around the one
place where the context itself would stand: one binary search finds the longest suffix, as the longer of the
matches with the two entries beside that place.

The file is a function of the segment's tokens alone. A removal leaves it as it is: the ranks of dead entries are
listed once for each change of the live mask, and every question subtracts them by binary search: the neighbors of a
place are its live neighbors, and a count is the length of a range less the dead ranks within. The answer is, to the
integer, that of a segment which never had the document.

Why binary search over the whole batch at once: a step costs about as much for hundreds of contexts as for one. For a
few it costs more than looking at them one by one, which ``walking`` does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydivsufsort import divsufsort

from datastore.errors import BadArrays, CorruptDatastore
from datastore.files import load_array
from datastore.tallies import Tally, joined, parted, spread, summed
from datastore.views import LiveMask
from datastore.walking import Walk

FILE_NAME = "ngrams.npy"
_LARGE = 1 << 11
"""Ranges with at least this many entries are tallied one by one, and remembered until the live mask changes."""
_MAX_REMEMBERED = 1 << 8
_FEW = 8
"""So many sequences are looked for one by one."""
_STEP = 128
"""How many entries a step of a search looks at, at least, however few the sequences."""
_TALLY_ENTRIES = 1 << 20
"""How many entries of smaller ranges are gathered at a time."""


@dataclass(frozen=True)
class Sequences:
    """Token sequences of any lengths, end to end."""

    tokens: NDArray[np.int64]
    """One more follows the last sequence, so that there is always one to look at."""
    ends: NDArray[np.int64]
    """``(q,)``: one past the last token of each sequence in ``tokens``."""
    lengths: NDArray[np.int64]
    """``(q,)``."""

    @classmethod
    def of(cls, sequences: Sequence[NDArray[np.integer] | Sequence[int]]) -> "Sequences":
        """Pack ``sequences``. Raises BadArrays unless each is one-dimensional, of whole numbers that are not negative.

        Tokens beyond the vocabulary are fine; they occur nowhere.
        """
        arrays = [np.asarray(sequence) for sequence in sequences]
        for array in arrays:
            if array.ndim != 1 or (array.size and not np.issubdtype(array.dtype, np.integer)):
                raise BadArrays(f"token sequences must be (n,) whole numbers; got shape {array.shape}, {array.dtype}")
        lengths = np.array([len(array) for array in arrays], dtype=np.int64)
        tokens = np.concatenate([*(array.astype(np.int64) for array in arrays), np.zeros(1, np.int64)])
        if tokens.min() < 0:
            raise BadArrays(f"tokens must not be negative; got {tokens.min()}")
        return cls(tokens, np.cumsum(lengths), lengths)

    def last(self, lengths: NDArray[np.int64]) -> "Sequences":
        """The last ``lengths`` ``(q, m)`` tokens of each sequence, as ``q * m`` sequences."""
        return Sequences(self.tokens, np.repeat(self.ends, lengths.shape[1]), lengths.ravel())

    def row(self, row: int) -> list[int]:
        """The tokens of one sequence."""
        found: list[int] = self.tokens[self.ends[row] - self.lengths[row] : self.ends[row]].tolist()
        return found

    def rows(self, rows: NDArray[np.int64]) -> "Sequences":
        """The sequences at ``rows`` ``(r,)``."""
        return Sequences(self.tokens, self.ends[rows], self.lengths[rows])


def entry_order(tokens: NDArray[np.integer], starts: NDArray[np.int64]) -> NDArray[np.int32]:
    """The array of ``ngrams.npy`` for a segment's ``tokens`` ``(n,)``, of documents that begin at ``starts`` ``(d,)``.

    Raises:
        BadArrays: there are more positions than an int32 holds.
    """
    n = len(tokens)
    if n > np.iinfo(np.int32).max:
        raise BadArrays(f"a segment of {n:,} positions has no n-grams view; the most is {np.iinfo(np.int32).max:,}")
    if n == 0:
        return np.empty(0, np.int32)
    # The ends of documents become the smallest symbol: read backward, each stops the document that comes after it.
    symbols = tokens.astype(np.int64) + 1
    symbols[np.append(starts[1:], n) - 1] = 0
    ranked = divsufsort(np.ascontiguousarray(symbols[::-1]))
    return (n - 1 - ranked[len(starts) :]).astype(np.int32)


class NgramsView:
    """The array at ``source``, memory-mapped and never written. Its SHA-256 must have been checked before.

    ``tokens`` ``(n,)`` are the segment's and ``starts`` ``(d,)`` the first positions of its documents, and of the runs
    that begin behind a hole in one (``redaction``): a run is to this view what a document is.

    Raises:
        CorruptDatastore: the array does not have one int32 for each entry.
    """

    def __init__(self, source: Path | NDArray[np.int32], tokens: NDArray[Any], starts: NDArray[np.int64]) -> None:
        order = load_array(source) if isinstance(source, Path) else source
        self._order: NDArray[np.int32] = np.asarray(order)  # a plain array over the same pages: less to do
        self._tokens = np.asarray(tokens)
        self._starts = np.ascontiguousarray(starts)
        self.n_entries = len(tokens) - len(starts)
        if self._order.dtype != np.int32 or self._order.shape != (self.n_entries,):
            raise CorruptDatastore(
                f"{source} should hold {self.n_entries} int32 positions; "
                f"it holds {self._order.shape} {self._order.dtype}"
            )
        self._walk = Walk(self._order, self._tokens, self._starts)
        self._known: tuple[LiveMask, int, _Living] | None = None

    @classmethod
    def of(cls, tokens: NDArray[Any], starts: NDArray[np.int64]) -> "NgramsView":
        """The view of ``tokens``, made here and now and held in memory."""
        return cls(entry_order(tokens, starts), tokens, starts)

    def longest(self, sequences: Sequences, live: LiveMask) -> NDArray[np.int64]:
        """``(q,)``: how many of each sequence's last tokens occur in a row before a live entry; 0 where none does."""
        living = self._living(live)
        n_live = self.n_entries - len(living.dead)
        if n_live == 0:
            return np.zeros_like(sequences.lengths)
        if len(sequences.ends) <= _FEW:
            found = [self._longest_one(sequences.row(row), living) for row in range(len(sequences.ends))]
            return np.array(found, dtype=np.int64)
        rank, matched_below, matched_above = self._bisect(sequences, np.zeros(len(sequences.ends), dtype=bool))
        if len(living.dead) == 0:
            return np.maximum(matched_below, matched_above)
        above = rank - living.n_dead_below(rank)
        best = np.zeros_like(sequences.lengths)
        for nth in (above - 1, above):
            is_there = (nth >= 0) & (nth < n_live)
            positions = self._positions(living.rank(np.where(is_there, nth, 0)))
            matched, _ = self._compare(positions, sequences, np.zeros_like(rank))
            best = np.maximum(best, np.where(is_there, matched, 0))
        return best

    def ranges(self, sequences: Sequences) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First and last ranks, ``(q,)`` each, half-open, of the entries that each sequence ends at, live or not.

        An empty sequence ends nowhere.
        """
        q = len(sequences.ends)
        if q <= _FEW:
            found = np.array(self._ranges_one_by_one(sequences), dtype=np.int64).reshape(q, 2)
            return found[:, 0], found[:, 1]
        twice = Sequences(sequences.tokens, np.tile(sequences.ends, 2), np.tile(sequences.lengths, 2))
        rank, _, _ = self._bisect(twice, np.arange(2 * q) >= q)
        return rank[:q], np.where(sequences.lengths > 0, rank[q:], rank[:q])

    def counts(self, first: NDArray[np.int64], last: NDArray[np.int64], live: LiveMask) -> NDArray[np.int64]:
        """How many live entries each range of ranks has."""
        living = self._living(live)
        found: NDArray[np.int64] = (last - first) - (living.n_dead_below(last) - living.n_dead_below(first))
        return found

    def positions(self, first: int, last: int, live: LiveMask, n: int) -> NDArray[np.int64]:
        """The ``n`` lowest positions, in order, of the live entries in a range of ranks; all where there are fewer."""
        found = self._positions(np.arange(first, last))
        found = found[live.flags[found]]
        if len(found) > n:
            found = np.partition(found, n)[:n] if n else found[:0]
        return np.sort(found)

    def tally(self, first: NDArray[np.int64], last: NDArray[np.int64], live: LiveMask) -> Tally:
        """The values of the live entries in each range of ranks; rows are indices into ``first``."""
        distinct, numbers = _distinct(first, last)
        sizes = distinct[:, 1] - distinct[:, 0]
        large = np.flatnonzero(sizes >= _LARGE)
        small = np.flatnonzero((sizes > 0) & (sizes < _LARGE))
        chunks = np.split(small, np.flatnonzero(np.diff(np.cumsum(sizes[small]) // _TALLY_ENTRIES)) + 1)
        parts = [self._tally_one(number, distinct[number], live) for number in large.tolist()]
        parts += [self._tally_many(chunk, distinct[chunk, 0], sizes[chunk], live) for chunk in chunks if len(chunk)]
        return spread(summed(parts), numbers, len(distinct))

    def holds(self, start: int, stop: int) -> int:
        """As ``View.holds``."""
        return int(((self._order >= start) & (self._order < stop)).sum())

    def _longest_one(self, sequence: list[int], living: "_Living") -> int:
        below, above = self._bracket_one(sequence)
        rank, matched_below, matched_above = self._walk.place(sequence, below, above)
        if len(living.dead) == 0:
            return max(matched_below, matched_above)
        n_live = self.n_entries - len(living.dead)
        nth = rank - int(living.n_dead_below(np.array([rank]))[0])
        beside = living.rank(np.array([n for n in (nth - 1, nth) if 0 <= n < n_live]))
        return max(self._walk.compare(position, sequence)[0] for position in self._positions(beside).tolist())

    def _ranges_one_by_one(self, sequences: Sequences) -> list[tuple[int, int]]:
        """As ``ranges``; runs of rows with one end and falling lengths, as ``Sequences.last`` makes them, as one."""
        found: list[tuple[int, int]] = []
        ends, lengths = sequences.ends.tolist(), sequences.lengths.tolist()
        while (row := len(found)) < len(ends):
            stop = row + 1
            while stop < len(ends) and ends[stop] == ends[row] and lengths[stop] <= lengths[stop - 1]:
                stop += 1
            sequence = sequences.row(row)
            found += self._walk.ranges(sequence, lengths[row:stop], *self._bracket_one(sequence))
        return found

    def _tally_one(self, number: int, ranks: NDArray[np.int64], live: LiveMask) -> Tally:
        known = self._living(live).tallies
        first, last = int(ranks[0]), int(ranks[1])
        if (found := known.get((first, last))) is None:
            positions = self._positions(np.arange(first, last))
            counts = np.bincount(self._tokens[positions[live.flags[positions]] + 1])
            tokens = np.flatnonzero(counts)
            found = tokens, counts[tokens]
            if len(known) < _MAX_REMEMBERED:
                known[first, last] = found
        return np.full(len(found[0]), number), *found

    def _tally_many(
        self, numbers: NDArray[np.int64], first: NDArray[np.int64], sizes: NDArray[np.int64], live: LiveMask
    ) -> Tally:
        before = np.cumsum(sizes) - sizes
        positions = self._positions(np.arange(sizes.sum()) + np.repeat(first - before, sizes))
        rows = np.repeat(numbers, sizes)
        is_live = live.flags[positions]
        keys, counts = np.unique(
            joined(rows[is_live], self._tokens[positions[is_live] + 1].astype(np.int64)), return_counts=True
        )
        return (*parted(keys), counts)

    def _positions(self, ranks: NDArray[np.int64]) -> NDArray[np.int64]:
        return self._order[ranks].astype(np.int64)

    def _living(self, live: LiveMask) -> "_Living":
        """What is known of the mask, made anew when it has changed."""
        version = live.version  # read first: a change in between only makes the list be made again
        if self._known is None or self._known[0] is not live or self._known[1] != version:
            self._known = live, version, _Living(np.flatnonzero(~live.flags[self._order]))
        return self._known[2]

    def _bisect(
        self, sequences: Sequences, is_after: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """The rank before which each sequence belongs, and how many tokens it shares with the entries on both sides.

        Entries that the sequence ends at come after that rank; where ``is_after``, before it. The tokens which both
        ends of a range share need not be compared again (Manber and Myers, 1993).
        """
        below, above = self._bracket(sequences)
        matched_below, matched_above = np.zeros_like(below), np.zeros_like(below)
        # A small batch tries several ranks of each range in a step, since a step costs the same for hundreds.
        n_tries = max(1, min(31, _STEP // max(1, len(below))))
        tries = np.arange(1, n_tries + 1)
        while len(rows := np.flatnonzero(above - below > 1)):
            gaps = above[rows] - below[rows]
            ranks = below[rows, None] + np.maximum(1, gaps[:, None] * tries // (n_tries + 1))
            known = np.maximum(np.minimum(matched_below[rows], matched_above[rows]), 1)  # as all within the bracket
            which = np.repeat(rows, n_tries)
            matched, order = self._compare(
                self._positions(ranks.ravel()), sequences.rows(which), np.repeat(known, n_tries)
            )
            is_below = np.where(is_after[which], order <= 0, order < 0).reshape(-1, n_tries)
            matched = matched.reshape(-1, n_tries)
            n_below = is_below.sum(axis=1)  # they come first in each row
            down, up = np.flatnonzero(n_below > 0), np.flatnonzero(n_below < n_tries)
            below[rows[down]] = ranks[down, n_below[down] - 1]
            matched_below[rows[down]] = matched[down, n_below[down] - 1]
            above[rows[up]] = ranks[up, n_below[up]]
            matched_above[rows[up]] = matched[up, n_below[up]]
        return above, matched_below, matched_above

    def _bracket(self, sequences: Sequences) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The ranks right below and above the entries that share each sequence's last token."""
        last = np.where(sequences.lengths > 0, sequences.tokens[sequences.ends - 1] + 1, 0)
        last = np.minimum(last, len(self._first_ranks) - 2)
        return self._first_ranks[last] - 1, self._first_ranks[last + 1]

    def _bracket_one(self, sequence: list[int]) -> tuple[int, int]:
        last = min(sequence[-1] + 1 if sequence else 0, len(self._first_ranks) - 2)
        return int(self._first_ranks[last]) - 1, int(self._first_ranks[last + 1])

    @cached_property
    def _first_ranks(self) -> NDArray[np.int64]:
        """``(v + 4,)``: the number of entries whose token is less than -1, 0, 1 … v + 1, for tokens up to ``v``."""
        counts = np.bincount(self._tokens, minlength=1)
        lasts, times = np.unique(self._tokens[np.append(self._starts, len(self._tokens))[1:] - 1], return_counts=True)
        counts[lasts] -= times
        return np.concatenate([[0, 0], np.cumsum(counts), [self.n_entries]])

    def _compare(
        self,
        positions: NDArray[np.int64],
        sequences: Sequences,
        matched: NDArray[np.int64],
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """How many tokens before and at each position match a sequence's last ones, ``matched`` of them known to.

        And the order of the two: -1 where the entry comes first, 0 where the sequence ends at it, 1 otherwise.
        """
        room = positions + 1 - self._starts[np.searchsorted(self._starts, positions, side="right") - 1]
        stops = np.minimum(sequences.lengths, room)
        matched = matched.copy()
        rows = np.arange(len(positions))
        width = 4
        while len(rows):
            depth = matched[rows, None] + np.arange(width)
            ours = self._tokens.take(positions[rows, None] - depth, mode="clip")
            theirs = sequences.tokens.take(sequences.ends[rows, None] - 1 - depth, mode="clip")
            ends = np.ones((len(rows), width + 1), dtype=bool)
            ends[:, :-1] = (ours != theirs) | (depth >= stops[rows, None])
            n = ends.argmax(axis=1)
            matched[rows] += n
            rows = rows[n == width]
            width = min(2 * width, 64)
        ours = self._tokens.take(positions - matched, mode="clip").astype(np.int64)
        theirs = sequences.tokens.take(sequences.ends - 1 - matched, mode="clip")
        order = np.where(matched == room, -1, np.sign(ours - theirs))
        return matched, np.where(matched == sequences.lengths, 0, order)


class _Living:
    """What one version of a live mask means for the ranks: the dead ones in order, and tallies made since."""

    def __init__(self, dead: NDArray[np.int64]) -> None:
        self.dead = dead
        self.tallies: dict[tuple[int, int], tuple[NDArray[np.int64], NDArray[np.int64]]] = {}
        """Tokens and counts of large ranges. They know removed documents, so they go when the mask changes."""
        self._n_live_below = dead - np.arange(len(dead))

    def n_dead_below(self, ranks: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many dead ranks are less than each of ``ranks``."""
        return np.searchsorted(self.dead, ranks, side="left")

    def rank(self, nth: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rank of the ``nth`` live entry, counted from 0."""
        ranks: NDArray[np.int64] = nth + np.searchsorted(self._n_live_below, nth, side="right")
        return ranks


def _distinct(first: NDArray[np.int64], last: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The distinct ranges, ``(r, 2)`` in order, and which of them each is."""
    if len(first) > _FEW:
        distinct, numbers = np.unique(np.stack([first, last], axis=1), axis=0, return_inverse=True)
        return distinct, numbers.ravel()
    pairs = list(zip(first.tolist(), last.tolist(), strict=True))
    number = {pair: i for i, pair in enumerate(sorted(set(pairs)))}
    found = np.array([number[pair] for pair in pairs], dtype=np.int64)
    return np.array(list(number), dtype=np.int64).reshape(-1, 2), found
