"""What is fitted for keys, and that a row's bits depend on nothing but the row."""

import numpy as np
import pytest

from datastore.codecs import KINDS, SQ8_MARGIN, Codec, KeySpace, fit_space, read_space, write_space
from datastore.errors import BadArrays
from datastore.exact import ExactView
from datastore.optout import opt_out
from datastore.projection import fit_projection
from datastore.views import LiveMask

RANDOM = np.random.default_rng(0)
LICENSED = (RANDOM.normal(size=(2000, 48)) * np.linspace(8, 0.1, 48)) @ np.linalg.qr(RANDOM.normal(size=(48, 48)))[0]
OTHERS = [0, 1, 5, 64, 999]


@pytest.mark.parametrize("n_before", OTHERS)
@pytest.mark.parametrize("n_after", OTHERS)
def test_a_projected_row_has_the_same_bits_among_any_others(n_before, n_after):
    projection = fit_projection(LICENSED, 20)
    rows = LICENSED[:7].astype(np.float16)
    alone = np.concatenate([projection(row[None]) for row in rows])
    random = np.random.default_rng(n_before)
    before, after = random.normal(size=(n_before, 48)), random.normal(size=(n_after, 48)) * 100
    among = projection(np.concatenate([before, rows, after]))[n_before : n_before + 7]
    assert among.tobytes() == alone.tobytes()


def test_the_order_of_the_dimensions_is_of_no_matter_since_every_sum_is_exact():
    """The same rows with their dimensions shuffled add up in another order. The control: plain products differ."""
    projection = fit_projection(LICENSED, 20)
    rows, order = LICENSED.astype(np.float16), np.random.default_rng(1).permutation(48)
    shuffled = type(projection)(projection.steps[order], projection.matrix[order])
    assert shuffled(rows[:, order]).tobytes() == projection(rows).tobytes()
    plain, matrix = rows.astype(np.float64), projection.matrix / projection.steps[:, None] / 3
    assert (plain[:, order] @ matrix[order]).tobytes() != (plain @ matrix).tobytes()


def test_a_projection_keeps_the_distances_that_the_largest_directions_make():
    projected = fit_projection(LICENSED, 30)(LICENSED[:200])
    direct = LICENSED[:200] - LICENSED.mean(axis=0)
    _, _, directions = np.linalg.svd(LICENSED - LICENSED.mean(axis=0), full_matrices=False)
    expected = direct @ directions[:30].T
    norms = [np.linalg.norm(rows[:-1] - rows[1:], axis=1) for rows in (projected, expected)]
    np.testing.assert_allclose(*norms, rtol=1e-4)


def test_a_component_far_beyond_the_licensed_ones_is_clipped_and_stays_finite():
    projection = fit_projection(LICENSED, 20)
    far = np.zeros((2, 48), np.float32)
    far[:, 3] = 60000, 65000
    one, other = projection(far)
    assert np.isfinite(one).all() and one.tobytes() == other.tobytes()


@pytest.mark.parametrize("n", [0, 48, 100])
def test_a_projection_must_leave_some_dimensions_and_not_all(n):
    with pytest.raises(BadArrays, match="more than those"):
        fit_projection(LICENSED, n)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pca", [0, 16])
def test_a_key_is_coded_alike_alone_and_among_others(kind, pca):
    space = fit_space(LICENSED, 4, Codec(kind, pca))
    keys = np.random.default_rng(2).normal(size=(300, 48)).astype(np.float16) * 4
    together = space.coded(space.project(keys))
    alone = np.concatenate([space.coded(space.project(key[None])) for key in keys[::7]])
    assert together[::7].tobytes() == alone.tobytes()


def test_the_ranges_of_sq8_have_a_margin_so_that_fewer_unseen_keys_are_clipped():
    space = fit_space(LICENSED, 4, Codec("sq8"))
    unseen = np.float32(1.3) * LICENSED.astype(np.float32)
    width = np.ptp(LICENSED, axis=0).astype(np.float32)
    tight = KeySpace("sq8", space.centroids, space.trained + SQ8_MARGIN * np.stack([width, -2 * width]), None)
    assert space.clipped(unseen) == 0 < tight.clipped(unseen)
    error, tight_error = (np.abs(each.coded(unseen) - unseen).max() for each in (space, tight))
    assert error <= 1.01 * space.trained[1].max() / 510 < tight_error


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pca", [0, 16])
def test_a_space_is_read_as_it_was_written(tmp_path, kind, pca):
    space = fit_space(LICENSED, 4, Codec(kind, pca))
    write_space(tmp_path, space)
    again = read_space(tmp_path, kind, pca > 0)
    assert again.project(LICENSED[:9]).tobytes() == space.project(LICENSED[:9]).tobytes()
    assert again.coded(space.project(LICENSED)).tobytes() == space.coded(space.project(LICENSED)).tobytes()
    assert again.centroids.tobytes() == space.centroids.tobytes()


def test_what_is_fitted_is_a_function_of_the_keys():
    for kind in KINDS:
        one, other = (fit_space(keys, 6, Codec(kind, 8)) for keys in (LICENSED, LICENSED.copy()))
        assert one.centroids.tobytes() == other.centroids.tobytes()
        assert one.trained.tobytes() == other.trained.tobytes()


UNFIT = {
    "fewer keys than lists": (np.zeros((3, 2)), "fp16", "at least as many"),
    "not a number": (np.full((9, 2), np.nan), "fp16", "NaN or infinite"),
    "infinite": (np.full((9, 2), np.inf), "sq8", "NaN or infinite"),
    "fewer keys than vectors": (np.zeros((255, 2)), "pq", "at least 256"),
}


@pytest.mark.parametrize(("keys", "kind", "message"), UNFIT.values(), ids=UNFIT.keys())
def test_nothing_is_fitted_on(keys, kind, message):
    with pytest.raises(BadArrays, match=message):
        fit_space(keys, 4, Codec(kind))


@pytest.mark.parametrize(("kind", "pca"), [("int4", 0), ("SQ8", 0), ("sq8", -1)])
def test_a_codec_that_there_is_not_is_refused(kind, pca):
    with pytest.raises(BadArrays):
        Codec(kind, pca)


@pytest.mark.parametrize("codec", [Codec("fp16"), Codec("sq8", 3)], ids=str)
def test_below_its_bound_a_store_looks_at_every_entry_and_the_bound_counts_live_entries(
    make_store, documents, queries, now, codec
):
    n = sum(len(document.keys) for document in documents)

    def found(store) -> bytes:
        return store.search(queries, 40, 1).squared_distances.tobytes()

    at, below = (make_store(documents, codec=codec, exact_below=bound) for bound in (n, n + 1))
    space = below.space
    keys = space.coded(space.project(np.concatenate([document.keys for document in documents])))
    exact = ExactView(keys, np.arange(n)).search(space.project(queries), 40, 1, LiveMask.all(n))
    np.testing.assert_allclose(below.search(queries, 40, 1).squared_distances, exact[0], rtol=1e-4, atol=1e-4)
    assert found(at) != found(below), "at the bound one list is looked at"
    # A removal takes the first store below the bound: from then on it is the store that never had the document.
    opt_out(at, "doc-0", now=now)
    never = make_store(documents[1:], codec=codec, exact_below=n)
    assert found(at) == found(never)
    assert found(at) != found(make_store(documents[1:], codec=codec, exact_below=0))


def test_by_default_the_bound_is_twenty_thousand_entries(make_store):
    assert make_store().manifest.exact_below == 20_000
