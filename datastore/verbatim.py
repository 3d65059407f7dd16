"""The longest run of characters that two texts share, and where in a store the longest one of a text is live.

Every window of a length is hashed (a polynomial modulo 2**64, as Karp and Rabin's) and looked up among those of the
text sought; the length is found by bisection, since what has a run of a length has one of every shorter. A hit is
compared character by character before it counts. Time grows with the live text.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datastore.store import Datastore
from datastore.tables import LIVE

_BASE = np.uint64(0x9E3779B97F4A7C15)
_INVERSE = np.uint64(pow(int(_BASE), -1, 1 << 64))


@dataclass(frozen=True)
class Run:
    """A run of a text's characters in a live document."""

    document: str
    start: int
    """Offset in the stored text of the document."""
    text_start: int
    """Offset in the text sought."""
    length: int
    """In characters."""


class Sought:
    """A text whose runs are looked for."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._codes = _Codes(text)
        self._windows: dict[int, tuple[NDArray[np.uint64], NDArray[np.int64]]] = {}

    def longest_in(self, piece: str, floor: int = 0) -> tuple[int, int, int] | None:
        """Length and offsets, in ``piece`` and in the text, of the longest shared run above ``floor``; None without."""
        other = _Codes(piece)
        best = self._shared(other, floor + 1)
        if best is None:
            return None
        low, high = floor + 1, min(len(self.text), len(piece))
        step = 1
        while low < high:  # doubling first: most runs are little longer than the floor
            middle = min(low + step, high)
            found = self._shared(other, middle)
            if found is None:
                high = middle - 1
                step = max(1, (high - low) // 2)
            else:
                best, low = found, middle
                step = min(2 * step, max(1, (high - low + 1) // 2)) if high - low else 1
        return low, *best

    def _shared(self, other: "_Codes", length: int) -> tuple[int, int] | None:
        """Offsets, in the other text and in this one, of a shared run of that length."""
        if length > min(len(self.text), len(other.text)):
            return None
        if length not in self._windows:
            hashes = self._codes.hashes(length)
            order = np.argsort(hashes, kind="stable")
            self._windows[length] = hashes[order], order
        known, order = self._windows[length]
        hashes = other.hashes(length)
        at = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
        for there in np.flatnonzero(known[at] == hashes).tolist():
            here = int(order[at[there]])
            if self.text[here : here + length] == other.text[there : there + length]:
                return there, here
        return None


def live_pieces(store: Datastore, documents: Iterable[str] | None = None) -> Iterator[tuple[str, int, str]]:
    """The live text of each document: its id, the offset of a piece in its stored text, and the piece."""
    names = documents if documents is not None else [document.facts.id for document in store.documents(LIVE)]
    for name in names:
        stored = store.live_text(name)
        for start, piece in stored.pieces() if stored is not None else []:
            yield name, start, piece


def longest_run(store: Datastore, text: str, documents: Iterable[str] | None = None) -> Run | None:
    """The longest run of characters of ``text`` in live documents, or in those named; None where it shares nothing."""
    sought, best = Sought(text), None
    for name, start, piece in live_pieces(store, documents):
        if found := sought.longest_in(piece, 0 if best is None else best.length):
            length, there, here = found
            best = Run(name, start + there, here, length)
    return best


class _Codes:
    """The characters of a text as numbers, and sums of them from which the hash of any window follows."""

    def __init__(self, text: str) -> None:
        self.text = text
        codes = np.frombuffer(text.encode("utf-32-le"), dtype="<u4").astype(np.uint64) + np.uint64(1)
        powers = np.cumprod(np.full(len(codes), _BASE))
        self._sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(codes * powers)])
        self._inverses = np.cumprod(np.full(len(codes), _INVERSE))

    def hashes(self, length: int) -> NDArray[np.uint64]:
        """Of every window of ``length`` characters, in order."""
        n = len(self.text) - length + 1
        found: NDArray[np.uint64] = (self._sums[length:] - self._sums[:n]) * self._inverses[:n]
        return found
