"""The law of the datastore: after a removal it answers, to the bit, as if the document had never been there."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datastore.codecs import KINDS, Codec
from datastore.compaction import compact
from datastore.errors import UnknownDocument
from datastore.optout import opt_out
from datastore.records import Neighbors
from datastore.store import SEGMENTS, Datastore
from datastore.writer import add

NAMES = [f"doc-{i}" for i in range(10)]
SETS = {
    "none": [],
    "first": ["doc-0"],
    "last": ["doc-9"],
    "one in the middle": ["doc-4"],
    "some": ["doc-1", "doc-2", "doc-8"],
    "all but one": NAMES[:5] + NAMES[6:],
    "all": NAMES,
}


def named(store: Datastore, found: Neighbors) -> list:
    """Neighbors without the numbering of entries, which a removal leaves gaps in."""
    rows = []
    for distances, entries, values in zip(found.squared_distances, found.entries, found.values, strict=True):
        live = entries >= 0
        places = store.locate(entries[live].tolist(), found.epoch)
        rows.append((distances.tobytes(), values.tobytes(), places))
    return rows


def files(store: Datastore) -> list[dict[str, str]]:
    folders = sorted((store.path / SEGMENTS).iterdir())
    return [
        {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in sorted(folder.iterdir())} for folder in folders
    ]


CODECS = {**{kind: Codec(kind) for kind in KINDS}, "sq8, fewer dimensions": Codec("sq8", 3)}


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS.keys())
@pytest.mark.parametrize("gone", SETS.values(), ids=SETS.keys())
@pytest.mark.parametrize("cut", [1 << 20, 30], ids=["one segment", "many segments"])
def test_a_store_after_a_removal_is_the_store_that_never_had_the_document(
    make_store, documents, queries, now, gone, cut, codec
):
    how = {"max_segment_positions": cut, "codec": codec, "exact_below": 0}
    store = make_store(documents[:6], documents[6:], **how)
    for name in gone:
        opt_out(store, name, now=now)
    never = make_store([d for d in documents if d.facts.id not in gone], **how)
    for k, n_probe in ((1, 1), (5, 2), (64, 4), (400, 4)):
        answer, expected = store.search(queries, k, n_probe), never.search(queries, k, n_probe)
        assert named(store, answer) == named(never, expected)
    compact(store)
    assert named(store, store.search(queries, 64, 4)) == named(never, never.search(queries, 64, 4))
    assert files(store) == files(never)


def test_a_live_document_does_change_the_answers(make_store, documents, queries):
    """The control: if this fails, the test above proves nothing."""
    store, never = make_store(documents), make_store(documents[1:])
    assert named(store, store.search(queries, 64, 4)) != named(never, never.search(queries, 64, 4))


@given(
    order=st.permutations(NAMES),
    n_gone=st.integers(0, 10),
    n_compacted=st.integers(0, 10),
    batches=st.lists(st.integers(1, 5), min_size=1, max_size=4),
)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_order_of_removals_and_compactions_ends_in_the_same_place(
    make_store, documents, queries, now, order, n_gone, n_compacted, batches
):
    store = make_store()
    rest = list(documents)
    for size in [*batches, 10]:
        batch, rest = rest[:size], rest[size:]
        add(store, batch)
    for i, name in enumerate(order[:n_gone]):
        if i == n_compacted:
            compact(store)
        opt_out(store, name, now=now)
    compact(store)
    never = make_store([d for d in documents if d.facts.id not in order[:n_gone]])
    assert files(store) == files(never)
    assert named(store, store.search(queries, 32, 4)) == named(never, never.search(queries, 32, 4))
    store.close(), never.close()


def owners(store: Datastore, found: Neighbors) -> set[str]:
    entries = found.entries[found.entries >= 0]
    return {place.document for place in store.locate(entries.tolist(), found.epoch)}


def test_a_removal_through_another_handle_is_seen_by_the_next_search(make_store, documents, queries, now):
    store = make_store(documents)
    assert "doc-3" in owners(store, store.search(queries, 500, 4))
    opt_out(Datastore.open(store.path), "doc-3", now=now)
    assert owners(store, store.search(queries, 500, 4)) == set(NAMES) - {"doc-3"}


def test_neighbors_of_an_earlier_epoch_are_not_located(make_store, documents, queries, now):
    store = make_store(documents)
    found = store.search(queries, 3, 4)
    opt_out(store, "doc-0", now=now)
    assert store.locate(found.entries[0].tolist(), found.epoch) is None


def test_asking_again_returns_the_same_receipt_and_changes_nothing(make_store, documents, now):
    store = make_store(documents)
    receipt = opt_out(store, "doc-3", now=now)
    epoch = store.epoch
    assert opt_out(store, "doc-3", now=now) == receipt
    compact(store)
    assert opt_out(Datastore.open(store.path), "doc-3", now=now) == receipt
    assert store.epoch == epoch + 1


def test_a_document_that_never_was_cannot_be_removed(make_store, documents, now):
    store = make_store(documents)
    with pytest.raises(UnknownDocument, match="was ever in this store"):
        opt_out(store, "nobody", now=now)
    assert store.epoch == 1


def test_after_compaction_no_file_has_the_text_the_tokens_or_the_keys(make_store, documents, now):
    store = make_store(documents)
    gone = documents[4]
    traces = [gone.text.encode(), gone.tokens.astype("uint16").tobytes(), gone.keys.tobytes(), b"owner of doc-4"]
    needles = [traces[0][:40], traces[1][:12], traces[2][:16], traces[3]]
    folder = store.path

    def holding() -> list[Path]:
        paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        return [path for path in paths for needle in needles if needle in path.read_bytes()]

    assert len(holding()) >= 3
    opt_out(store, "doc-4", now=now)
    compact(store)
    assert holding() == []


def test_counts_follow_a_removal(make_store, documents, now):
    store = make_store(documents)
    n_entries = store.n_entries
    assert n_entries == sum(len(d.keys) for d in documents)
    assert store.live_entries("doc-2") == len(documents[2].keys)
    opt_out(store, "doc-2", now=now)
    assert store.n_entries == n_entries - len(documents[2].keys)
    assert (store.live_entries("doc-2"), store.document("doc-2").state) == (0, "removed")
    compact(store)
    assert (store.live_entries("doc-2"), store.document("doc-2").state) == (0, "erased")
    assert [d.facts.id for d in store.documents("live")] == [n for n in NAMES if n != "doc-2"]
    assert np.isfinite(store.search(np.zeros((1, 4)), 3, 4).squared_distances).all()


def test_without_its_only_document_a_store_answers_nothing_and_takes_another(make_store, documents, queries, now):
    store = make_store(documents[:1])
    assert (store.search(queries, 3, 4).entries >= 0).all()
    opt_out(store, "doc-0", now=now)
    assert (store.search(queries, 3, 4).entries == -1).all()
    compact(store)
    assert files(store) == []
    add(store, documents[1:])
    never = make_store(documents[1:])
    assert files(store) == files(never)
    assert named(store, store.search(queries, 32, 4)) == named(never, never.search(queries, 32, 4))
