"""The n-grams of a segment in which documents lost sentences, until compaction writes them anew.

The suffix array on disk was sorted with the removed sentences in place, so a match with an entry behind one could run
through it. Those entries are taken out of that array's sight, and the runs of tokens behind each hole get a small
array of their own, in memory: to it a run is a document, and nothing lies before it. Both together answer, to the
integer, what the compacted segment will. Costs time in the length of the documents that lost something, at each
change. Works on positions.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datastore.ngrams import NgramsView
from datastore.redaction import Ranges
from datastore.segments import Segment
from datastore.views import LiveMask


@dataclass(frozen=True)
class NgramsPart:
    """A view, the entries of it that live, and what its positions are in the store."""

    view: NgramsView
    live: LiveMask
    start: int
    """Entry id of position 0, where ``entries`` is None."""
    entries: NDArray[np.int64] | None = None
    """``(positions,)``: entry ids."""

    def named(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """``positions`` as entry ids."""
        return positions + self.start if self.entries is None else self.entries[positions]


def ngrams_parts(segment: Segment, start: int, live: LiveMask, holes: Mapping[int, Ranges]) -> list[NgramsPart]:
    """What together holds the n-grams of ``segment``, whose first entry id is ``start``.

    ``holes`` are the sentences, by ordinal of their document, that ``live`` does not serve and the files still hold.
    """
    if not holes:
        return [NgramsPart(segment.ngrams, live, start)]
    sound = set(segment.run_starts.tolist())
    runs = [run for ordinal, removed in sorted(holes.items()) for run in _runs(segment, ordinal, removed)]
    behind = [run for run in runs if run[0] not in sound]
    rest = LiveMask(live.flags.copy())
    for first, last in behind:
        rest.clear(first, last)
    if not behind:
        return [NgramsPart(segment.ngrams, rest, start)]
    positions = np.concatenate([np.arange(first, last) for first, last in behind])
    starts = np.cumsum([0] + [last - first for first, last in behind[:-1]])
    view = NgramsView.of(np.asarray(segment.tokens[positions]), starts)
    return [
        NgramsPart(segment.ngrams, rest, start),
        NgramsPart(view, LiveMask(live.flags[positions]), start, start + positions),
    ]


def _runs(segment: Segment, ordinal: int, removed: Ranges) -> list[tuple[int, int]]:
    """Half-open ranges of the positions of each run that is left."""
    left = segment.redacted(ordinal, removed)
    kept = segment.span(ordinal)[0] + np.flatnonzero(left.is_kept)
    ends = np.flatnonzero(~left.is_entry[left.is_kept])
    return [(int(kept[a]), int(kept[b]) + 1) for a, b in zip(left.run_starts, ends, strict=True)]
