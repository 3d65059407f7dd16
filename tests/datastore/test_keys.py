"""The FAISS view and the exact view are asked the same questions."""

import faiss
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datastore.codecs import KINDS, Codec, KeySpace, fit_space
from datastore.errors import BadArrays, CorruptDatastore
from datastore.exact import ExactView
from datastore.keys import KeysView, merge_keys, write_keys
from datastore.views import LiveMask

N_LISTS, DIMENSION = 4, 3
CENTROIDS = np.random.default_rng(0).integers(-2, 3, (N_LISTS, DIMENSION)).astype(np.float32)
FP16 = KeySpace("fp16", CENTROIDS, np.empty(0, np.float32), None)
LICENSED = np.random.default_rng(8).normal(size=(400, DIMENSION)).astype(np.float16)
SPACES = {
    **{kind: fit_space(LICENSED, N_LISTS, Codec(kind)) for kind in KINDS},
    "sq8, fewer dimensions": fit_space(LICENSED, N_LISTS, Codec("sq8", 2)),
}
CODECS = {**{kind: Codec(kind) for kind in KINDS}, "sq8, fewer dimensions": Codec("sq8", 9)}
every_codec = pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS.keys())
every_space = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES.keys())


@pytest.fixture
def view_of(tmp_path):
    """The FAISS view of keys at positions, written and read back."""
    count = iter(range(10_000))

    def make(keys: np.ndarray, positions: np.ndarray, space: KeySpace = FP16) -> KeysView:
        path = tmp_path / f"{next(count)}.faiss"
        write_keys(path, space, keys, positions)
        return KeysView(path, space)

    return make


def same_bits(one: tuple, other: tuple) -> None:
    for a, b in zip(one, other, strict=True):
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(0, 60),
    spread=st.integers(0, 2),
    n_queries=st.integers(0, 5),
    k=st.integers(1, 70),
    alive=st.sampled_from([0.0, 0.2, 0.7, 1.0]),
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_at_full_n_probe_the_faiss_view_is_the_exact_view_to_the_bit(view_of, seed, n, spread, n_queries, k, alive):
    random = np.random.default_rng(seed)
    keys = random.integers(-spread, spread + 1, (n, DIMENSION)).astype(np.float16)
    positions = np.sort(random.choice(2 * n + 1, n, replace=False)).astype(np.int64)
    queries = random.integers(-spread, spread + 1, (n_queries, DIMENSION)).astype(np.float32)
    live = LiveMask(random.random(2 * n + 1) < alive)
    found = view_of(keys, positions).search(queries, k, N_LISTS, live)
    same_bits(found, ExactView(keys, positions).search(queries, k, N_LISTS, live))


@every_codec
@given(seed=st.integers(0, 2**32 - 1), k=st.integers(1, 90), alive=st.sampled_from([0.05, 0.5, 1.0]))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_codec_ranks_by_distance_and_then_position_and_counts_only_what_lives(view_of, codec, seed, k, alive):
    """Few different keys, so most distances tie; dead entries in a list must not change a live one's bits."""
    random = np.random.default_rng(seed)
    licensed = random.normal(size=(300, 20))
    space = fit_space(licensed, 3, codec)
    keys = random.normal(size=(9, 20))[random.integers(0, 9, 80)].astype(np.float16)
    queries = space.project(np.concatenate([keys[:2].astype(np.float32), random.normal(size=(3, 20))]))
    view, live = view_of(keys, np.arange(80), space), LiveMask(random.random(80) < alive)
    distances, positions = view.search(queries, 80, 3, LiveMask.all(80))
    exact = ExactView(space.coded(space.project(keys)), np.arange(80)).search(queries, 80, 3, LiveMask.all(80))
    np.testing.assert_allclose(distances, exact[0], rtol=1e-4, atol=1e-5)
    found = view.search(queries, k, 3, live)
    for row in range(5):
        order = np.lexsort((positions[row], distances[row]))
        kept = [i for i in order if live.flags[positions[row, i]]][:k]
        n = len(kept)
        assert found[1][row].tolist() == positions[row, kept].tolist() + [-1] * (k - n)
        assert found[0][row, :n].tobytes() == distances[row, kept].tobytes() and np.isinf(found[0][row, n:]).all()


def test_on_real_numbers_the_views_agree_within_rounding(view_of):
    random = np.random.default_rng(1)
    keys = random.normal(size=(500, 16)).astype(np.float16)
    queries = random.normal(size=(30, 16)).astype(np.float32)
    positions, live = np.arange(500), LiveMask(random.random(500) < 0.8)
    found = view_of(keys, positions, fit_space(keys, 8, Codec())).search(queries, 20, 8, live)
    exact = ExactView(keys, positions).search(queries, 20, 8, live)
    np.testing.assert_allclose(found[0], exact[0], rtol=1e-5)
    assert (found[1] == exact[1]).mean() > 0.99  # neighbors that are nearer to each other than rounding may swap


def test_the_nearest_live_entry_is_found_behind_any_number_of_removed_ones(view_of):
    keys = np.zeros((100, DIMENSION), np.float16)
    keys[99] = 9
    live = LiveMask(np.arange(100) == 99)
    view = view_of(keys, np.arange(100))
    distances, positions = view.search(np.zeros((1, DIMENSION), np.float32), 5, N_LISTS, live)
    assert positions.tolist() == [[99, -1, -1, -1, -1]]
    assert distances[0, 0] == 81 * DIMENSION and np.isinf(distances[0, 1:]).all()
    # The control: to filter a finished top five finds nothing at all.
    _, finished = view.search(np.zeros((1, DIMENSION), np.float32), 5, N_LISTS, LiveMask.all(100))
    assert not live.flags[finished].any()


@every_codec
@pytest.mark.parametrize("k", [1, 7, 64, 300])
def test_a_row_does_not_depend_on_the_batch_that_it_comes_in(view_of, codec, k):
    random = np.random.default_rng(2)
    keys = random.normal(size=(300, 24)).astype(np.float16)
    keys[100:200] = keys[0]  # ties, so that some rows are scanned again and others are not
    queries = np.concatenate([random.normal(size=(40, 24)), keys[:3]]).astype(np.float32)
    space = fit_space(keys, 8, codec)
    view, live = view_of(keys, np.arange(300), space), LiveMask(random.random(300) < 0.9)
    together = view.search(space.project(queries), k, 3, live)
    for i in range(len(queries)):
        alone = view.search(space.project(queries[i : i + 1]), k, 3, live)
        same_bits(alone, (together[0][i : i + 1], together[1][i : i + 1]))


def test_the_lists_that_a_row_looks_into_do_not_depend_on_the_batch_either(view_of):
    """Of two lists at one distance rounding picks, and a matrix product rounds by the shape of the batch."""
    random = np.random.default_rng(6)
    half = random.normal(size=(32, 256)) + 5
    centroids = np.concatenate([half, half + random.normal(size=half.shape) / 10]).astype(np.float32)
    pair = random.integers(0, 32, 200)
    queries = (centroids[pair] + centroids[pair + 32]) / 2
    space = KeySpace("fp16", centroids, np.empty(0, np.float32), None)
    view = view_of(centroids.astype(np.float16), np.arange(64), space)

    def rows_that_differ() -> int:
        together = view.search(queries, 1, 1, LiveMask.all(64))[1]
        alone = [view.search(query[None], 1, 1, LiveMask.all(64))[1] for query in queries]
        return int((together != np.concatenate(alone)).sum())

    assert rows_that_differ() == 0
    threshold, faiss.cvar.distance_compute_blas_threshold = faiss.cvar.distance_compute_blas_threshold, 20
    try:
        assert rows_that_differ() > 0, "the control: with FAISS's own threshold some rows differ"
    finally:
        faiss.cvar.distance_compute_blas_threshold = threshold


def test_only_rows_with_a_tie_at_rank_k_are_scanned_again(view_of, monkeypatch):
    keys = np.zeros((64, DIMENSION), np.float16)
    keys[32:, 0] = np.arange(1, 33)
    view, live = view_of(keys, np.arange(64)), LiveMask.all(64)
    scanned = []
    scan = view._scan

    def watch(queries, *rest):
        scanned.append(len(queries))
        return scan(queries, *rest)

    monkeypatch.setattr(view, "_scan", watch)
    queries = np.array([[40, 0, 0], [0, 0, 0], [41, 0, 0]], np.float32)
    found = view.search(queries, 3, N_LISTS, live)
    assert scanned == [3, 1, 1, 1, 1]
    same_bits(found, ExactView(keys, np.arange(64)).search(queries, 3, N_LISTS, live))


def test_a_selector_that_is_ignored_serves_nothing_removed(view_of, monkeypatch):
    keys = np.random.default_rng(3).integers(-2, 3, (50, DIMENSION)).astype(np.float16)
    view, live = view_of(keys, np.arange(50)), LiveMask(np.arange(50) % 2 == 0)
    real = faiss.SearchParametersIVF
    monkeypatch.setattr(faiss, "SearchParametersIVF", lambda nprobe, sel: real(nprobe=nprobe))
    _, positions = view.search(keys[:9].astype(np.float32), 20, N_LISTS, live)
    assert (positions[positions >= 0] % 2 == 0).all() and (positions >= 0).any()


@every_space
@given(seed=st.integers(0, 2**32 - 1), sizes=st.lists(st.integers(0, 20), min_size=1, max_size=4))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_merged_views_are_the_file_that_is_written_of_what_stays(view_of, tmp_path, space, seed, sizes):
    random = np.random.default_rng(seed)
    parts, kept, start = [], [np.empty((0, DIMENSION), np.float16)], 0
    for size in sizes:
        keys = random.normal(size=(size, DIMENSION)).astype(np.float16)
        keep = random.random(size) < 0.6
        moved = np.full(size, -1, np.int64)
        moved[keep] = start + np.arange(keep.sum())
        parts.append((view_of(keys, np.arange(size), space), moved))
        kept.append(keys[keep])
        start += keep.sum()
    merge_keys(tmp_path / "merged", space, parts)
    write_keys(tmp_path / "written", space, np.concatenate(kept), np.arange(start, dtype=np.int64))
    assert (tmp_path / "merged").read_bytes() == (tmp_path / "written").read_bytes()


def test_faiss_does_remove_by_swapping_which_is_why_we_copy(view_of, tmp_path):
    """The control of the test above."""
    keys = np.random.default_rng(4).normal(size=(40, DIMENSION)).astype(np.float16)
    write_keys(tmp_path / "all", FP16, keys, np.arange(40))
    index = faiss.read_index(str(tmp_path / "all"))
    index.remove_ids(np.array([0, 1, 2, 3]))
    faiss.write_index(index, str(tmp_path / "removed"))
    write_keys(tmp_path / "written", FP16, keys[4:], np.arange(4, 40))
    assert (tmp_path / "removed").read_bytes() != (tmp_path / "written").read_bytes()


@given(n=st.integers(1, 70), data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_mask_has_the_same_bits_however_it_lost_them(n, data):
    mask, flags = LiveMask.all(n), np.ones(n, bool)
    for _ in range(3):
        start = data.draw(st.integers(0, n))
        stop = data.draw(st.integers(start, n))
        mask.clear(start, stop)
        flags[start:stop] = False
    fresh = LiveMask(flags)
    assert (mask.flags.tobytes(), mask.bits.tobytes()) == (fresh.flags.tobytes(), fresh.bits.tobytes())


def test_a_view_counts_what_its_file_holds_live_or_not(view_of):
    positions = np.array([0, 1, 2, 7, 8, 9])
    keys = np.ones((6, DIMENSION), np.float16)
    for view in (view_of(keys, positions), ExactView(keys, positions)):
        assert [view.holds(*span) for span in ((0, 10), (2, 8), (3, 7), (9, 9))] == [6, 2, 0, 0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, 65520.0, -1e6], ids=str)
def test_keys_that_fp16_cannot_hold_are_refused(tmp_path, bad):
    keys = np.zeros((3, DIMENSION), np.float32)
    keys[1, 1] = bad
    with pytest.raises(BadArrays, match="fp16"):
        write_keys(tmp_path / "keys", FP16, keys, np.arange(3))
    assert not (tmp_path / "keys").exists()


def test_an_index_of_another_kind_or_dimension_is_refused(tmp_path):
    write_keys(tmp_path / "keys", FP16, np.zeros((1, DIMENSION)), np.arange(1))
    KeysView(tmp_path / "keys", FP16)
    with pytest.raises(CorruptDatastore, match="of 5 dimensions"):
        KeysView(tmp_path / "keys", KeySpace("fp16", np.zeros((4, 5), np.float32), np.empty(0, np.float32), None))
    with pytest.raises(CorruptDatastore, match="for pq"):
        KeysView(tmp_path / "keys", SPACES["pq"])
    faiss.write_index(faiss.IndexFlatL2(DIMENSION), str(tmp_path / "flat"))
    with pytest.raises(CorruptDatastore, match="IVF index"):
        KeysView(tmp_path / "flat", FP16)
    (tmp_path / "text").write_text("no index")
    with pytest.raises(CorruptDatastore, match="not a FAISS index"):
        KeysView(tmp_path / "text", FP16)


UNUSABLE = [np.nan, np.inf, -np.inf]


@pytest.mark.parametrize("bad", UNUSABLE, ids=str)
def test_a_query_that_is_no_number_gets_no_neighbors_and_its_batch_the_usual_ones(make_store, documents, queries, bad):
    store = make_store(documents)
    asked = queries.copy()
    asked[4, 1] = bad
    usual, found = store.search(queries, 5, 4), store.search(asked, 5, 4)
    assert (
        (found.entries[4] == -1).all() and (found.values[4] == -1).all() and np.isinf(found.squared_distances[4]).all()
    )
    rest = np.arange(len(queries)) != 4
    assert found.entries[rest].tobytes() == usual.entries[rest].tobytes()
    assert (usual.entries[4] >= 0).all()


QUESTIONS = {
    "one dimension too many": (np.zeros((1, 5)), 1, 1),
    "a single vector": (np.zeros(4), 1, 1),
    "no neighbors": (np.zeros((1, 4)), 0, 1),
    "a negative number of them": (np.zeros((1, 4)), -1, 1),
    "no lists": (np.zeros((1, 4)), 1, 0),
}


@pytest.mark.parametrize(("asked", "k", "n_probe"), QUESTIONS.values(), ids=QUESTIONS.keys())
def test_a_store_refuses_to_search_for(make_store, documents, asked, k, n_probe):
    with pytest.raises(BadArrays):
        make_store(documents).search(asked, k, n_probe)


def test_more_lists_than_there_are_means_all(make_store, documents, queries):
    store = make_store(documents)
    assert store.search(queries, 5, 4).entries.tobytes() == store.search(queries, 5, 10**6).entries.tobytes()


@pytest.mark.parametrize("n_queries", [0, 1])
def test_a_store_with_nothing_in_it_answers_with_no_neighbors(make_store, queries, n_queries):
    found = make_store().search(queries[:n_queries], 3)
    assert found.entries.tolist() == [[-1, -1, -1]] * n_queries
