"""The ``keys`` view: the nearest contexts of a segment, by FAISS inverted lists over coded keys.

Works on positions and vectors; knows neither documents nor tokens. Every rule here serves one
end: what a search answers must not depend on entries that are not live.

- The space of the keys is given, fitted on licensed text, and frozen (``codecs``); nothing is trained here.
- Distances of one query never come from a matrix product over many: BLAS rounds a row
  differently with the shape of the batch, hence the threshold in ``codecs``, which is global to faiss.
- FAISS filters inside the scan. Its choice among equal distances at rank k follows the order of
  the scan, so a query with a tie there is asked again, for more, until the tie is wholly inside.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import faiss
import numpy as np
from numpy.typing import NDArray

from datastore.codecs import MAX_FP16, KeySpace
from datastore.errors import BadArrays, CorruptDatastore
from datastore.views import LiveMask

FILE_NAME = "keys.faiss"
_ADD_ROWS = 1 << 16


class Lists(Protocol):
    """Entries by inverted list, as ``merge_keys`` takes them."""

    def lists(self) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.uint8]]]:
        """As ``KeysView.lists``."""


def write_keys(path: Path, space: KeySpace, keys: NDArray[np.floating], positions: NDArray[np.int64]) -> None:
    """Write the index of ``keys`` ``(m, d)`` at ``positions`` ``(m,)``, increasing, to ``path``.

    Raises:
        BadArrays: a value does not fit fp16, whose largest is 65,504.
    """
    if len(keys) and not np.abs(keys).max() <= MAX_FP16:
        raise BadArrays(f"keys must lie within ±{MAX_FP16:,.0f} to be stored as fp16; got {np.abs(keys).max()}")
    index = space.empty_index()
    for start in range(0, len(keys), _ADD_ROWS):
        rows = slice(start, start + _ADD_ROWS)
        index.add_with_ids(space.project(keys[rows]), np.ascontiguousarray(positions[rows]))
    _write(index, path)


def merge_keys(
    path: Path,
    space: KeySpace,
    parts: Sequence[tuple[Lists, NDArray[np.int64]]],
) -> None:
    """Write to ``path`` the entries of several views, each with its map from old position to new (-1: left out).

    Each inverted list is copied in order, codes untouched, so the file equals, byte for byte, one that
    ``write_keys`` makes of the entries that stay. FAISS's own ``remove_ids`` would swap the last entry into the hole.
    """
    index = space.empty_index()
    for view, new_positions in parts:
        for number, positions, codes in view.lists():
            moved = new_positions[positions]
            keep = moved >= 0
            if keep.any():
                moved, codes = np.ascontiguousarray(moved[keep]), np.ascontiguousarray(codes[keep])
                index.invlists.add_entries(number, len(moved), faiss.swig_ptr(moved), faiss.swig_ptr(codes))
                index.ntotal += len(moved)
    _write(index, path)


class KeysView:
    """The index at ``path``, memory-mapped and never written. Its SHA-256 must have been checked before.

    Raises:
        CorruptDatastore: the file is no index of the expected kind and dimension.
    """

    def __init__(self, path: Path, space: KeySpace) -> None:
        try:
            self._index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
        except RuntimeError as error:
            raise CorruptDatastore(f"{path} is not a FAISS index: {error}") from None
        kind = faiss.IndexIVFPQ if space.kind == "pq" else faiss.IndexIVFScalarQuantizer
        if not isinstance(self._index, kind) or self._index.d != space.dimension:
            raise CorruptDatastore(
                f"{path} should be an IVF index of {space.dimension} dimensions for {space.kind}; got {self._index}"
            )
        self.n_entries: int = self._index.ntotal

    def search(
        self, queries: NDArray[np.float32], k: int, n_probe: int, live: LiveMask
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """As ``NeighborsView.search``, of projected ``queries``: one total order (squared distance, position)."""
        wanted = min(k + 1, self.n_entries)
        distances, positions = _ordered(*self._scan(queries, wanted, n_probe, live))
        rows = np.flatnonzero(_has_tie_at(distances, k)) if wanted < self.n_entries else np.empty(0, np.int64)
        distances, positions = _exactly(k, distances, positions)
        while len(rows):
            wanted = min(2 * wanted, self.n_entries)
            more = _ordered(*self._scan(queries[rows], wanted, n_probe, live))
            distances[rows], positions[rows] = _exactly(k, *more)
            rows = rows[_has_tie_at(more[0], k)] if wanted < self.n_entries else rows[:0]
        return distances, positions

    def holds(self, start: int, stop: int) -> int:
        """As ``View.holds``."""
        return sum(int(((ids >= start) & (ids < stop)).sum()) for _, ids, _ in self.lists())

    def lists(self) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.uint8]]]:
        """Each inverted list that is not empty: its number, the positions and the codes in stored order."""
        lists = self._index.invlists
        for number in range(lists.nlist):
            if size := lists.list_size(number):
                positions = faiss.rev_swig_ptr(lists.get_ids(number), size)
                codes = faiss.rev_swig_ptr(lists.get_codes(number), size * lists.code_size)
                yield number, positions, codes.reshape(size, lists.code_size)

    def _scan(
        self, queries: NDArray[np.float32], k: int, n_probe: int, live: LiveMask
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        if k == 0:
            return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        selector = faiss.IDSelectorBitmap(live.bits)
        parameters = faiss.SearchParametersIVF(nprobe=min(n_probe, self._index.nlist), sel=selector)
        distances, positions = self._index.search(queries, k, params=parameters)
        # The selector is checked again: some GPU builds have ignored it silently.
        dead = (positions < 0) | ~live.flags[positions]
        distances[dead], positions[dead] = np.inf, -1
        return distances, positions


def _ordered(
    distances: NDArray[np.float32], positions: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Rows in the order (distance, position). FAISS gives them by distance, so only equal ones may be out of order."""
    if (distances[:, 1:] > distances[:, :-1]).all():
        return distances, positions
    order = np.lexsort((positions, distances))
    return np.take_along_axis(distances, order, 1), np.take_along_axis(positions, order, 1)


def _exactly(
    k: int, distances: NDArray[np.float32], positions: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The first ``k`` columns, filled up with what says that there is no entry."""
    missing = ((0, 0), (0, max(0, k - distances.shape[1])))
    if missing[1][1]:
        distances = np.pad(distances, missing, constant_values=np.inf)
        positions = np.pad(positions, missing, constant_values=-1)
    return distances[:, :k], positions[:, :k]


def _has_tie_at(distances: NDArray[np.float32], k: int) -> NDArray[np.bool_]:
    """The rows whose k-th best distance is also their last one, so that equals may have been left out."""
    tied: NDArray[np.bool_] = (distances[:, k - 1] == distances[:, -1]) & np.isfinite(distances[:, -1])
    return tied


def _write(index: "faiss.Index", path: Path) -> None:
    """Write by Python's own file: FAISS says of an error of the last bytes nothing that a caller hears of."""
    with path.open("wb") as file:
        faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))
