"""Brute-force search: the second implementation that the fast one is held against.

Works on arrays in memory; slow and plain on purpose.
"""

import numpy as np
from numpy.typing import NDArray

from datastore.views import LiveMask


class ExactView:
    """Every live key compared with every query, in float64."""

    def __init__(self, keys: NDArray[np.floating], positions: NDArray[np.int64]) -> None:
        """``keys`` is ``(m, d)``, as a codec leaves them; ``positions`` is ``(m,)``, increasing."""
        self._keys = keys.astype(np.float64)
        self._positions = positions

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        n_probe: int,  # noqa: ARG002
        live: LiveMask,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """As ``NeighborsView.search``; ``n_probe`` is ignored, since every entry is looked at."""
        distances = np.full((len(queries), k), np.inf, dtype=np.float32)
        positions = np.full((len(queries), k), -1, dtype=np.int64)
        rows = np.flatnonzero(live.flags[self._positions])
        for i, query in enumerate(queries.astype(np.float64)):
            d = ((self._keys[rows] - query) ** 2).sum(axis=1).astype(np.float32)
            best = np.lexsort((self._positions[rows], d))[:k]
            distances[i, : len(best)] = d[best]
            positions[i, : len(best)] = self._positions[rows[best]]
        return distances, positions

    def holds(self, start: int, stop: int) -> int:
        """As ``View.holds``."""
        return int(((self._positions >= start) & (self._positions < stop)).sum())
