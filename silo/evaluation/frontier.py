"""How near one set of texts is to another, from their vectors: a score like MAUVE (Pillutla et al. 2021).

Works on vectors; knows no text. As there, both sets are quantized together by k-means after PCA (components that hold
90 % of the variance of unit vectors), and the area under the frontier of divergences from mixtures of the two
histograms is the score, with the scaling constant c = 5: 1 where the histograms are equal, near 0 where they are apart.

Why it is not called MAUVE: there the vectors are GPT-2's, of the last token of a text with its prompt, and the sample
is of 5,000 texts with 500 clusters. Here they are what the caller gives, and samples are small; the number of clusters
is a tenth of the texts, as there. A score depends on all of these: compare it with others of the same run only.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from silo.errors import BadRequest

SCALING = 5.0
"""c of the paper."""
_VARIANCE = 0.9
_N_MIXTURES = 25
_N_ITERATIONS, _N_ATTEMPTS = 500, 5


@dataclass(frozen=True)
class Quantized:
    """Two sets of texts in one set of clusters: the cluster of each text."""

    first: Int[np.ndarray, " n"]
    second: Int[np.ndarray, " m"]
    n_clusters: int

    def score(self, first: Sequence[int] | np.ndarray | None = None, second: np.ndarray | None = None) -> float:
        """The area of the frontier, 0 to 1; of some of the texts, by their indices."""
        p = self._histogram(self.first if first is None else self.first[first])
        q = self._histogram(self.second if second is None else self.second[second])
        return frontier_area(p, q)

    def _histogram(self, clusters: np.ndarray) -> Float[np.ndarray, " clusters"]:
        return np.bincount(clusters, minlength=self.n_clusters) / len(clusters)


def quantize(
    first: Float[np.ndarray, "n dimension"], second: Float[np.ndarray, "m dimension"], seed: int = 0
) -> Quantized:
    """Cluster both sets together, into a tenth as many clusters as the smaller one has texts, and two at least.

    Raises:
        BadRequest: a set has fewer than two texts.
    """
    import faiss

    n = min(len(first), len(second))
    if n < 2:
        raise BadRequest(f"two texts of each kind are needed to compare them; got {len(first)} and {len(second)}")
    vectors = _principal(np.concatenate([first, second]).astype(np.float64))
    n_clusters = max(2, round(n / 10))
    clustering = faiss.Kmeans(
        vectors.shape[1],
        n_clusters,
        niter=_N_ITERATIONS,
        nredo=_N_ATTEMPTS,
        seed=seed % (1 << 31),
        min_points_per_centroid=1,
        max_points_per_centroid=len(vectors),
    )
    clustering.train(vectors)
    _, nearest = clustering.index.search(vectors, 1)
    clusters = nearest[:, 0].astype(np.int64)
    return Quantized(clusters[: len(first)], clusters[len(first) :], n_clusters)


def frontier_area(
    p: Float[np.ndarray, " clusters"], q: Float[np.ndarray, " clusters"], scaling: float = SCALING
) -> float:
    """The area under exp(-c KL(q|r)), exp(-c KL(p|r)) for mixtures r of two distributions; the mean of both ways."""
    weights = np.linspace(1e-6, 1 - 1e-6, _N_MIXTURES)[:, None]
    mixtures = weights * p + (1 - weights) * q
    x, y = (np.exp(-scaling * _divergences(one, mixtures)) for one in (q, p))
    x, y = np.append(x, [1.0, 0.0]), np.append(y, [0.0, 1.0])
    return (_area(x, y) + _area(y, x)) / 2


def _divergences(p: np.ndarray, mixtures: np.ndarray) -> np.ndarray:
    """Kullback-Leibler of ``p`` from each of ``mixtures``, in nats; they have probability wherever it has."""
    has = p > 0
    divergences: np.ndarray = (p[has] * np.log(p[has] / mixtures[:, has])).sum(axis=1)
    return divergences


def _area(x: np.ndarray, y: np.ndarray) -> float:
    order = np.lexsort((-y, x))
    return float(np.trapezoid(y[order], x[order]))


def _principal(vectors: Float[np.ndarray, "n dimension"]) -> Float[np.ndarray, "n components"]:
    """Unit vectors in the fewest principal components that hold ``_VARIANCE`` of their variance, float32."""
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    centered = unit - unit.mean(axis=0)
    left, values, _ = np.linalg.svd(centered, full_matrices=False)
    held = np.cumsum(values**2) / max(float((values**2).sum()), 1e-12)
    n = min(int(np.searchsorted(held, _VARIANCE)) + 1, len(values))
    return np.ascontiguousarray(left[:, :n] * values[:n], dtype=np.float32)
