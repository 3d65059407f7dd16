"""What every view of a segment can do.

A view answers one kind of question over the entries of one segment. Every question takes the
live mask, and filters *before* it ranks or counts: filtering a finished top-k could leave nothing.
Verification loops over the views of a segment, so that no path to a document is forgotten.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class LiveMask:
    """Which entries of a segment may be served, as booleans and as the packed bits that FAISS takes."""

    def __init__(self, live: NDArray[np.bool_]) -> None:
        self.flags = live
        self.bits: NDArray[np.uint8] = np.packbits(live, bitorder="little")
        self.tokens: NDArray[np.bool_] = live.copy()
        """Which positions' own tokens may be shown. The entry before a removed sentence is out of service, since its
        value is in there; its token is not."""
        self.version = 0
        """Grows with every change, once the change is made."""

    def clear(self, start: int, stop: int) -> None:
        """Take the entries ``[start, stop)`` and their tokens out of service; there is no way back."""
        self.tokens[start:stop] = False
        self.clear_entries(start, stop)

    def clear_entries(self, start: int, stop: int) -> None:
        """Take the entries ``[start, stop)`` out of service, though not their tokens."""
        self.flags[start:stop] = False
        first, last = start // 8 * 8, -(-stop // 8) * 8
        self.bits[first // 8 : last // 8] = np.packbits(self.flags[first:last], bitorder="little")
        self.version += 1

    @classmethod
    def all(cls, n: int) -> "LiveMask":
        """Everything lives."""
        return cls(np.ones(n, dtype=bool))


class View(Protocol):
    """One way to search a segment."""

    def holds(self, start: int, stop: int) -> int:
        """How many entries with a position in ``[start, stop)`` this view's files still hold, live or not."""
        ...


class NeighborsView(View, Protocol):
    """A view that answers with the entries nearest to a key."""

    def search(
        self, queries: NDArray[np.float32], k: int, n_probe: int, live: LiveMask
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Squared distances and positions, ``(q, k)``, in the order (distance, position); -1 where there are fewer."""
        ...
