import numpy as np
import pytest

from datastore.optout import opt_out
from silo.errors import BadRequest
from silo.evaluation.likelihood import DocumentScore
from silo.evaluation.scaling import Scaling, parts, slope
from silo.evaluation.traces import TraceSettings, trace

SETTINGS = TraceSettings(ks=(4, 16), factors=(0.5, 1.0), n_probe=3, is_knn_only=True)


@pytest.fixture
def stored(manual):
    return manual(50, 62, "GPL-3.0-only", characters=300)


@pytest.fixture
def store(llama, build, stored):
    return build(llama, stored)


def test_parts_are_nested_and_large_enough(store):
    found = parts(store, [60, 300, 700])
    sizes = {document.facts.id: document.n_entries for document in store.documents("live")}
    assert found[0].documents < found[1].documents < found[2].documents
    for part, asked in zip(found, (60, 300, 700), strict=True):
        assert part.n_entries == sum(sizes[id_] for id_ in part.documents) >= asked
        assert any(part.n_entries - sizes[id_] < asked for id_ in part.documents)


def test_a_part_gives_what_a_store_of_its_documents_gives(llama, build, store, stored, manual):
    """The proof: small stores are built, and asked the same."""
    chosen = parts(store, [100, 400, store.n_entries])
    scaling = Scaling(llama, store, chosen, SETTINGS, n_searched=store.n_entries)
    asked = manual(70, 72, "GPL-3.0-only", characters=250)
    found = list(scaling.look(asked))
    assert scaling.n_short.tolist() == [0, 0, 0]
    for i, part in enumerate(chosen):
        small = build(llama, [document for document in stored if document.id in part.documents])
        assert small.n_entries == part.n_entries
        for document, of_sizes in zip(asked, found, strict=True):
            expected = trace(llama, small, document, SETTINGS)
            for name in ("knn_gold", "has_knn", "lm_gold", "lengths", "n_bytes", "n_words"):
                assert (getattr(of_sizes[i], name) == getattr(expected, name)).all(), (part.n_entries, name)
    assert (found[0][0].knn_gold != found[0][2].knn_gold).any()


def test_a_search_too_shallow_for_a_small_part_is_counted(llama, store, manual):
    chosen = parts(store, [60, store.n_entries])
    scaling = Scaling(llama, store, chosen, SETTINGS, n_searched=16)
    list(scaling.look(manual(70, 71, "GPL-3.0-only", characters=250)))
    assert scaling.n_short[0] > 0.5 * scaling.n_positions
    assert scaling.n_short[1] == 0


def test_a_store_that_changes_meanwhile_is_an_error(llama, store, stored, manual, now):
    scaling = Scaling(llama, store, parts(store, [60]), SETTINGS, n_searched=16)
    opt_out(store, stored[0].id, now=now)
    with pytest.raises(BadRequest, match="has changed"):
        list(scaling.look(manual(70, 71, "GPL-3.0-only", characters=250)))


@pytest.mark.parametrize("sizes", [[], [0, 5], [5, 5], [9, 5], [1 << 40]])
def test_sizes_that_cannot_be_had_are_refused(llama, store, sizes):
    with pytest.raises(BadRequest):
        parts(store, sizes)
    with pytest.raises(BadRequest, match="at least 16"):
        Scaling(llama, store, (), SETTINGS, n_searched=8)


def test_a_line_is_found_with_its_interval():
    random = np.random.default_rng(0)
    levels = random.uniform(20, 40, 30)
    sizes = [1000, 4000, 16000, 64000]
    scores = [
        [
            DocumentScore(str(i), level - 0.5 * np.log2(size) + 0.1 * random.normal(), 10, 40)
            for i, level in enumerate(levels)
        ]
        for size in sizes
    ]
    found = slope(sizes, scores)
    assert found.nats_per_doubling == pytest.approx(-0.05, abs=0.003)
    low, high = found.interval
    assert low < found.nats_per_doubling < high and high - low < 0.01
    assert found.at(4000) == pytest.approx(sum(s.nats for s in scores[1]) / 300, abs=0.01)
    with pytest.raises(BadRequest, match="two sizes"):
        slope([1000], scores[:1])
