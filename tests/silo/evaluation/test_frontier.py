"""The score of two sets of texts: one where they are the same, near zero where they are apart, and in between."""

import numpy as np
import pytest

from silo.errors import BadRequest
from silo.evaluation.frontier import frontier_area, quantize


def cloud(seed, n=60, dimension=8, center=0.0):
    return np.random.default_rng(seed).normal(center, 1.0, (n, dimension)).astype(np.float32)


def two_kinds(seed, n, share):
    """Vectors about two far corners, ``share`` of them about the first."""
    found = cloud(seed, n) * 0.1
    found[: round(share * n), 0] += 5
    found[round(share * n) :, 1] += 5
    return found


def test_a_set_is_like_itself():
    assert quantize(cloud(0), cloud(0)).score() == pytest.approx(1)
    assert quantize(cloud(0), cloud(0)[::-1]).score() == pytest.approx(1)
    rows = np.array([3, 3, 3, 9, 20])
    assert quantize(cloud(0), cloud(0)).score(rows, rows) == pytest.approx(1)


def test_sets_that_lie_apart_are_unlike_and_the_nearer_one_is_more_like():
    apart = two_kinds(0, 60, 1.0), two_kinds(1, 60, 0.0)
    assert quantize(*apart).score() < 0.02
    mixed = [quantize(two_kinds(0, 60, 0.5), two_kinds(1, 60, share)).score() for share in (0.5, 0.75, 0.95, 1.0)]
    assert mixed == sorted(mixed, reverse=True) and mixed[0] > 0.7 > mixed[-1] > 0.02


def test_the_score_is_the_same_by_seed_and_has_a_tenth_as_many_clusters_as_texts():
    found = quantize(cloud(0, 100), cloud(1, 80), seed=5)
    again = quantize(cloud(0, 100), cloud(1, 80), seed=5)
    assert found.n_clusters == 8 and (found.first == again.first).all() and found.score() == again.score()
    assert len(found.first) == 100 and len(found.second) == 80
    assert quantize(cloud(0, 4), cloud(1, 4)).n_clusters == 2


@pytest.mark.parametrize(("p", "q"), [([0.5, 0.5], [0.5, 0.5]), ([1, 0], [0, 1]), ([0.9, 0.1], [0.2, 0.8])])
def test_the_area_is_that_of_a_finely_drawn_frontier(p, q):
    """Drawn from its definition with many more mixtures, and summed in another way."""
    p, q = np.array(p, float), np.array(q, float)
    weights = np.linspace(0, 1, 20001)[1:-1, None]
    r = weights * p + (1 - weights) * q
    with np.errstate(divide="ignore", invalid="ignore"):
        of_q, of_p = (np.nansum(np.where(d > 0, d * np.log(d / r), 0), axis=1) for d in (q, p))
    x, y = np.exp(-5 * of_q), np.exp(-5 * of_p)
    grid = np.linspace(0, 1, 20001)
    heights = np.interp(grid, x[::-1], y[::-1]) if x[0] > x[-1] else np.interp(grid, x, y)
    assert frontier_area(p, q) == pytest.approx(heights.mean(), abs=0.01)
    assert frontier_area(p, q) == pytest.approx(frontier_area(q, p))


def test_one_text_is_no_set():
    with pytest.raises(BadRequest, match="two texts"):
        quantize(cloud(0, 1), cloud(1))
