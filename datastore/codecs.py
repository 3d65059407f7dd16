"""The space in which a store keeps its keys: how many dimensions are left of them, and in what bytes they are written.

Chosen when a store is made and fixed from then on. Everything here is fitted on licensed keys, saved as arrays beside
the manifest, which has their SHA-256, and never fitted again: what codebooks or ranges learn from a text stays in them
after its removal. An entry's code is a function of its own key alone.

``fp16``  two bytes a dimension
``sq8``   one byte a dimension: 256 even steps over the range of the licensed keys and a margin, since keys of
          other domains fall outside; what lies beyond the margin is clipped
``pq``    one byte for up to four dimensions: the nearest of 256 vectors, by a product quantizer

``centroids.npy``   ``(n_lists, p)`` float32, of the inverted lists
``codec.npy``       float32: empty for ``fp16``; ``(2, p)`` least values and widths for ``sq8``; ``(m, 256, p / m)``
                    vectors for ``pq``
``projection.npy``  ``(d, p)`` float64 and ``key-steps.npy`` ``(d,)``: only where dimensions are left out

Keys are coded themselves, not as a residual to their centroid, so that the distance of an entry is the same number in
whichever list and segment it lies.
"""

from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from datastore.errors import BadArrays
from datastore.files import load_array, save_array
from datastore.projection import Projection, fit_projection

faiss.cvar.distance_compute_blas_threshold = 1 << 30

KINDS = ("fp16", "sq8", "pq")
CENTROIDS = "centroids.npy"
CODEC = "codec.npy"
PROJECTION = "projection.npy"
STEPS = "key-steps.npy"
MAX_FP16 = 65504.0
"""The largest number that fp16 holds."""
SQ8_MARGIN = 0.25
"""Of the width of the licensed keys' range, added at either end."""
_PQ_DIMENSIONS = 4
"""The most that one byte of ``pq`` stands for. From 16 on FAISS would code rows by a matrix product over many."""
_PQ_VECTORS = 256


@dataclass(frozen=True)
class Codec:
    """How keys are stored."""

    kind: str = "fp16"
    pca: int = 0
    """Dimensions that are left; 0, or at least as many as a key has, leaves all."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise BadArrays(f"the codec must be one of {', '.join(KINDS)}; got {self.kind!r}")
        if self.pca < 0:
            raise BadArrays(f"the dimensions left by PCA must be at least 1, or 0 for all; got {self.pca}")


@dataclass(frozen=True)
class KeySpace:
    """A codec with all that was fitted for it. ``d`` dimensions of a key, ``p`` of a stored one."""

    kind: str
    centroids: NDArray[np.float32]
    """``(n_lists, p)``."""
    trained: NDArray[np.float32]
    """As in ``codec.npy``."""
    projection: Projection | None

    @property
    def dimension(self) -> int:
        """Of a stored key: p."""
        return int(self.centroids.shape[1])

    @property
    def key_dimension(self) -> int:
        """Of a key: d."""
        return self.dimension if self.projection is None else len(self.projection.steps)

    @property
    def n_lists(self) -> int:
        """Inverted lists."""
        return len(self.centroids)

    def project(self, keys: NDArray[np.floating]) -> NDArray[np.float32]:
        """``keys`` ``(n, d)``, finite, as ``(n, p)`` float32, in which distances are measured. Row by row."""
        if self.projection is None:
            return np.ascontiguousarray(keys, dtype=np.float32)
        return self.projection(keys)

    def coded(self, projected: NDArray[np.float32]) -> NDArray[np.float32]:
        """What is left of ``projected`` ``(n, p)`` once it is stored."""
        index = self.empty_index()
        codec = index.pq if self.kind == "pq" else index.sq
        decoded: NDArray[np.float32] = codec.decode(codec.compute_codes(np.ascontiguousarray(projected)))
        return decoded

    def clipped(self, projected: NDArray[np.float32]) -> float:
        """The share of the components of ``projected`` ``(n, p)`` that lie outside what the codec can say."""
        if self.kind == "sq8":
            low, width = self.trained
            return float(((projected < low) | (projected > low + width)).mean())
        return float((np.abs(projected) > MAX_FP16).mean()) if self.kind == "fp16" else 0.0

    def empty_index(self) -> "faiss.IndexIVF":
        """A FAISS index of this space, trained, with nothing in it."""
        quantizer = faiss.IndexFlatL2(self.dimension)
        quantizer.add(np.ascontiguousarray(self.centroids))
        if self.kind == "pq":
            n_parts = len(self.trained)
            index = faiss.IndexIVFPQ(quantizer, self.dimension, self.n_lists, n_parts, 8, faiss.METRIC_L2)
            index.by_residual = False
            faiss.copy_array_to_vector(np.ascontiguousarray(self.trained).ravel(), index.pq.centroids)
        else:
            bits = faiss.ScalarQuantizer.QT_8bit if self.kind == "sq8" else faiss.ScalarQuantizer.QT_fp16
            index = faiss.IndexIVFScalarQuantizer(quantizer, self.dimension, self.n_lists, bits, faiss.METRIC_L2, False)
            if self.kind == "sq8":
                faiss.copy_array_to_vector(np.ascontiguousarray(self.trained).ravel(), index.sq.trained)
        index.is_trained = True
        index.own_fields = True
        quantizer.this.disown()
        return index


def fit_space(keys: NDArray[np.floating], n_lists: int, codec: Codec) -> KeySpace:
    """Fit all that ``codec`` needs, and the coarse centroids, on ``keys`` ``(m, d)``, which must be of licensed text.

    Raises:
        BadArrays: there are fewer keys than lists, or than the vectors of ``pq``; or values that are not finite.
    """
    if len(keys) < n_lists:
        raise BadArrays(f"{n_lists} inverted lists need at least as many licensed keys to fit on; got {len(keys)}")
    if not np.isfinite(keys).all():
        raise BadArrays("licensed keys have NaN or infinite values")
    projection = fit_projection(keys, codec.pca) if 0 < codec.pca < keys.shape[1] else None
    projected = np.ascontiguousarray(keys, dtype=np.float32) if projection is None else projection(keys)
    trained = {"fp16": _nothing, "sq8": fit_ranges, "pq": _fit_vectors}[codec.kind](projected)
    return KeySpace(codec.kind, fit_centroids(projected, n_lists), trained, projection)


def fit_centroids(keys: NDArray[np.floating], n_lists: int, seed: int = 0) -> NDArray[np.float32]:
    """Coarse centroids ``(n_lists, p)`` by k-means over ``keys`` ``(m, p)``."""
    kmeans = faiss.Kmeans(
        keys.shape[1], n_lists, niter=8, seed=seed, max_points_per_centroid=40, min_points_per_centroid=1
    )
    kmeans.train(np.ascontiguousarray(keys, dtype=np.float32))
    centroids: NDArray[np.float32] = kmeans.centroids.reshape(n_lists, -1)
    return centroids


def fit_ranges(keys: NDArray[np.float32]) -> NDArray[np.float32]:
    """``(2, p)``: the least value of each dimension and the width of its range, margins included."""
    low, high = keys.min(axis=0), keys.max(axis=0)
    margin = (high - low) * np.float32(SQ8_MARGIN)
    width = np.maximum(high - low + 2 * margin, np.float32(1e-6))
    return np.stack([low - margin, width])


def write_space(folder: Path, space: KeySpace) -> None:
    """Save the arrays of ``space`` in ``folder``."""
    arrays: dict[str, NDArray[np.floating]] = {CENTROIDS: space.centroids, CODEC: space.trained}
    if space.projection is not None:
        arrays |= {PROJECTION: space.projection.matrix, STEPS: space.projection.steps}
    for name, array in arrays.items():
        save_array(folder / name, array)


def read_space(folder: Path, kind: str, is_projected: bool) -> KeySpace:
    """The space that ``write_space`` saved. The files' SHA-256 must have been checked before."""
    projection = None
    if is_projected:
        projection = Projection(np.asarray(load_array(folder / STEPS)), np.asarray(load_array(folder / PROJECTION)))
    return KeySpace(kind, load_array(folder / CENTROIDS), load_array(folder / CODEC), projection)


def _nothing(keys: NDArray[np.float32]) -> NDArray[np.float32]:  # noqa: ARG001
    return np.empty(0, np.float32)


def _fit_vectors(keys: NDArray[np.float32]) -> NDArray[np.float32]:
    """``(m, 256, p / m)``: the vectors of each of ``m`` parts of a key."""
    if len(keys) < _PQ_VECTORS:
        raise BadArrays(f"the codec pq needs at least {_PQ_VECTORS} licensed keys to fit on; got {len(keys)}")
    dimension = keys.shape[1]
    size = next(size for size in range(_PQ_DIMENSIONS, 0, -1) if dimension % size == 0)
    quantizer = faiss.ProductQuantizer(dimension, dimension // size, 8)
    quantizer.cp.min_points_per_centroid = 1
    quantizer.train(np.ascontiguousarray(keys))
    vectors: NDArray[np.float32] = faiss.vector_to_array(quantizer.centroids)
    return vectors.reshape(dimension // size, _PQ_VECTORS, size)
