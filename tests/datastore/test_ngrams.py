"""The n-grams view and a count by hand are asked the same questions."""

import hashlib
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datastore import ngrams
from datastore.compaction import compact
from datastore.errors import BadArrays, CorruptDatastore
from datastore.ngrams import NgramsView, Sequences, entry_order
from datastore.optout import opt_out
from datastore.records import DocumentFacts, EncodedDocument
from datastore.store import Datastore
from datastore.views import LiveMask
from datastore.writer import add

END = 0
Tokens = list[int]


def document(name: str, tokens: Tokens) -> EncodedDocument:
    """A document of ``tokens`` and the end of text, one character each, in one sentence."""
    n = len(tokens)
    return EncodedDocument(
        DocumentFacts(name, digest=hashlib.sha256(name.encode()).hexdigest()),
        "x" * n,
        np.array([*tokens, END]),
        np.zeros((n, 4), np.float16),
        np.array([[0, n]]) if n else np.empty((0, 2), np.int64),
        np.zeros(n + 1, np.int64),
    )


def ends(documents: Sequence[Tokens], pattern: Tokens) -> list[tuple[int, int]]:
    """(document, index of the pattern's last token) of every occurrence before an entry, by looking at every one."""
    m = len(pattern)
    return [
        (i, p)
        for i, tokens in enumerate(documents)
        for p in range(m - 1, len(tokens))
        if m and tokens[p - m + 1 : p + 1] == pattern
    ]


def by_hand(documents: Sequence[Tokens], context: Tokens, limit: int) -> tuple[int, int, list[tuple[int, int]]]:
    """Length, count and continuations, for ``Datastore.continuations``."""
    for length in range(min(limit, len(context)), 0, -1):
        if found := ends(documents, context[-length:]):
            following = Counter([*documents[i], END][p + 1] for i, p in found)
            return length, len(found), sorted(following.items())
    return 0, 0, []


def answers(store: Datastore, contexts: Sequence[Tokens], limits: Sequence[int] | None = None) -> list:
    found = store.continuations(contexts, limits)
    q, m = found.lengths.shape
    return [
        (
            int(found.lengths[i, j]),
            int(found.counts[i, j]),
            list(zip(*(a.tolist() for a in found.following(i, j)), strict=True)),
        )
        for i in range(q)
        for j in range(m)
    ]


def places(store: Datastore, pattern: Tokens, n: int = 1000) -> tuple[int, list[tuple[str, int]]]:
    found = store.occurrences(pattern, n)
    located = store.locate(found.entries, found.epoch)
    return found.count, [(place.document, place.position) for place in located]


repeating = st.lists(st.integers(1, 3), max_size=14)


@given(
    texts=st.lists(repeating, max_size=9),
    copies=st.integers(0, 2),
    contexts=st.lists(st.lists(st.integers(0, 4), max_size=20), max_size=6),
    gone=st.sets(st.integers(0, 10)),
    cut=st.sampled_from([8, 25, 1 << 20]),
    n=st.integers(0, 9),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_answer_is_the_one_counted_by_hand(make_store, now, texts, copies, contexts, gone, cut, n):
    texts = [*texts, *texts[:copies]]  # whole documents come twice
    contexts = [*contexts, *texts[:2]]
    store = make_store([document(f"{i}", tokens) for i, tokens in enumerate(texts)], max_segment_positions=cut)
    live = list(range(len(texts)))

    def check() -> None:
        kept = [texts[i] for i in live]
        assert answers(store, contexts) == [by_hand(kept, c, 99) for c in contexts]
        assert answers(store, contexts, [5, 1, 2]) == [by_hand(kept, c, m) for c in contexts for m in (5, 1, 2)]
        for pattern in contexts:
            if pattern:
                expected = [(f"{live[i]}", p) for i, p in ends(kept, pattern)]
                assert places(store, pattern) == (len(expected), expected)
                assert places(store, pattern, n) == (len(expected), expected[:n])

    check()
    for i in sorted(gone & set(live)):
        opt_out(store, f"{i}", now=now)
        live.remove(i)
    check()
    compact(store)
    check()
    store.close()


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 200), alive=st.sampled_from([0.0, 0.1, 0.5, 0.95, 1.0]))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_entries_may_die_one_by_one(tmp_path, seed, n, alive):
    """Masks need not end where documents do: a passage may be removed from inside one."""
    random = np.random.default_rng(seed)
    tokens = random.integers(0, 3, n).astype(np.uint16)
    starts = np.unique(np.concatenate([[0], random.integers(0, n, n // 20)]))
    np.save(tmp_path / "n.npy", entry_order(tokens, starts))
    view = NgramsView(tmp_path / "n.npy", tokens, starts)
    live = LiveMask(random.random(n) < alive)
    contexts = [random.integers(0, 3, m).tolist() for m in (0, 1, 3, 6, 9)]
    sequences = Sequences.of(contexts)
    stops = np.append(starts[1:], n)
    runs = [
        tokens[a : p + 1].tolist() for a, b in zip(starts, stops, strict=True) for p in range(a, b - 1) if live.flags[p]
    ]
    expected = [next((m for m in range(len(c), 0, -1) if any(r[-m:] == c[-m:] for r in runs)), 0) for c in contexts]
    lengths = view.longest(sequences, live)
    assert lengths.tolist() == expected
    first, last = view.ranges(sequences.last(lengths[:, None]))
    counts = [sum(r[-m:] == c[-m:] for r in runs) if m else 0 for c, m in zip(contexts, expected, strict=True)]
    assert view.counts(first, last, live).tolist() == counts
    rows, _, tallied = view.tally(first, last, live)
    assert np.bincount(rows, tallied, len(contexts)).tolist() == counts


def test_the_order_is_that_of_the_tokens_read_backward():
    random = np.random.default_rng(5)
    tokens, starts = random.integers(0, 3, 300), np.array([0, 1, 40, 41, 120, 290])
    stops = np.append(starts[1:], 300)
    backward = {
        p: tokens[a : p + 1][::-1].tolist() for a, b in zip(starts, stops, strict=True) for p in range(a, b - 1)
    }
    order = entry_order(tokens, starts).tolist()
    assert sorted(order) == sorted(backward)
    keys = [backward[p] for p in order]
    assert keys == sorted(keys)


@pytest.mark.parametrize("limit", [2, 5])
@pytest.mark.parametrize("large", [1, 4, 1 << 13])
def test_ranges_of_any_size_are_tallied_alike(make_store, monkeypatch, now, limit, large):
    monkeypatch.setattr(ngrams, "_LARGE", large)
    monkeypatch.setattr(ngrams, "_TALLY_ENTRIES", 3)
    texts = [np.random.default_rng(i).integers(1, 4, 40).tolist() for i in range(6)]
    store = make_store([document(f"{i}", tokens) for i, tokens in enumerate(texts)])
    contexts = [texts[0][:i] for i in range(1, 30)]
    for _ in range(2):  # the second time, large ranges are remembered
        assert answers(store, contexts, [limit]) == [by_hand(texts, c, limit) for c in contexts]
    opt_out(store, "0", now=now)
    assert answers(store, contexts, [limit]) == [by_hand(texts[1:], c, limit) for c in contexts]


def test_a_removed_document_does_not_lengthen_the_longest_suffix(make_store, now):
    store = make_store([document("a", [1, 2, 3, 4, 5]), document("b", [9, 3, 4, 6])])
    assert answers(store, [[1, 2, 3, 4]]) == [(4, 1, [(5, 1)])]
    opt_out(store, "a", now=now)
    assert answers(store, [[1, 2, 3, 4]]) == [(2, 1, [(6, 1)])]


def test_a_match_never_crosses_into_another_document(make_store):
    store = make_store([document("a", [1, 2]), document("b", [3, 4])])
    assert answers(store, [[1, 2, 3], [2, END, 3], [3, END], [END]]) == [(1, 1, [(4, 1)])] * 2 + [(0, 0, [])] * 2
    assert places(store, [2, 3]) == (0, [])
    assert places(store, [2, END]) == (0, [])
    assert places(store, [2]) == (1, [("a", 1)])


@pytest.mark.parametrize("gone", [[], ["doc-0"], ["doc-4", "doc-9"], [f"doc-{i}" for i in range(10)]])
@pytest.mark.parametrize("cut", [1 << 20, 30], ids=["one segment", "many segments"])
def test_after_a_removal_the_store_answers_as_one_that_never_had_the_document(make_store, documents, now, gone, cut):
    store = make_store(documents[:6], documents[6:], max_segment_positions=cut)
    contexts = [d.tokens[:i].tolist() for d in documents for i in (1, 4, 8)]
    before = answers(store, contexts, [99, 1])
    for name in gone:
        opt_out(store, name, now=now)
    never = make_store([d for d in documents if d.facts.id not in gone])
    assert answers(store, contexts, [99, 1]) == answers(never, contexts, [99, 1])
    assert [places(store, c) for c in contexts] == [places(never, c) for c in contexts]
    assert (before == answers(store, contexts, [99, 1])) == (gone == [])  # the control
    compact(store)
    assert answers(store, contexts, [99, 1]) == answers(never, contexts, [99, 1])


def test_a_removal_through_another_handle_is_counted_at_once(make_store, documents, now):
    store = make_store(documents)
    pattern = documents[3].tokens[:6]
    assert store.occurrences(pattern).count == 1
    opt_out(Datastore.open(store.path), "doc-3", now=now)
    assert store.occurrences(pattern).count == 0
    assert store.occurrences(pattern).epoch == store.epoch


def test_a_batch_is_answered_as_one_by_one(make_store, documents):
    store = make_store(documents, max_segment_positions=40)
    contexts = [documents[i % 10].tokens[: i % 7].tolist() for i in range(40)]
    assert answers(store, contexts, [9, 2]) == [one for c in contexts for one in answers(store, [c], [9, 2])]


@pytest.mark.parametrize("seed", range(40))
def test_few_sequences_are_found_as_many_are(seed, monkeypatch):
    random = np.random.default_rng(seed)
    lengths = random.integers(0, 12, random.integers(1, 8))
    documents = [[*random.integers(1, 4, n), END] for n in lengths]
    tokens = np.array([token for document in documents for token in document], dtype=np.uint16)
    starts = np.cumsum([0, *(len(document) for document in documents[:-1])])
    view, live = NgramsView.of(tokens, starts), LiveMask(random.random(len(tokens)) < random.choice([0.3, 0.8, 1]))
    sequences = Sequences.of([random.integers(0, 5, n) for n in random.integers(0, 10, 8)])
    suffixes = sequences.last(np.minimum(np.array([9, 4, 4, 1, 0, 3]), sequences.lengths[:, None]))

    def found(few: int) -> list[list]:
        monkeypatch.setattr(ngrams, "_FEW", few)
        first, last = view.ranges(suffixes)
        tallies = [view.tally(first[:n], last[:n], live) for n in (0, 1, len(first))]
        return [found.tolist() for found in (view.longest(sequences, live), first, last, *sum(tallies, ()))]

    assert found(few=1000) == found(few=0)


def test_what_is_not_there_is_not_found(make_store):
    for store in (make_store(), make_store([document("empty", [])]), make_store([document("a", [1, 2])])):
        unknown = [49, 50, 1 << 16, 1 << 40]
        assert answers(store, [unknown, []]) == [(0, 0, [])] * 2
        assert places(store, unknown) == (0, [])
        assert store.continuations([]).lengths.shape == (0, 1)
    assert answers(store, [[2, 1, 2, 1], [7] * 500 + [1]]) == [(1, 1, [(2, 1)])] * 2


def test_documents_that_come_later_are_counted_too(make_store):
    store = make_store([document("a", [1, 2, 3])])
    add(store, [document("b", [1, 2, 4])])
    assert answers(store, [[1, 2]]) == [(2, 2, [(3, 1), (4, 1)])]
    assert places(store, [1, 2], 1) == (2, [("a", 1)])


def test_every_view_tells_what_its_files_hold(make_store, documents, now):
    store = make_store(documents)
    opt_out(store, "doc-2", now=now)
    (name,) = store._current().layout
    segment = store.open_segment(name)
    start, stop = segment.span(2)
    assert [view.holds(start, stop) for view in segment.views] == [len(documents[2].keys)] * 3
    assert [view.holds(stop, stop) for view in segment.views] == [0, 0, 0]


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda store: store.continuations([np.zeros((2, 2), int)]), r"must be \(n,\)"),
        (lambda store: store.continuations([[0.5]]), "whole numbers"),
        (lambda store: store.continuations([[1, -1]]), "negative"),
        (lambda store: store.continuations([[1]], []), "limits"),
        (lambda store: store.continuations([[1]], [3, 0]), "limits"),
        (lambda store: store.occurrences([]), "at least one token"),
        (lambda store: store.occurrences([1], -1), "n of at least 0"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(make_store, documents, ask, message):
    with pytest.raises(BadArrays, match=message):
        ask(make_store(documents[:1]))


def test_an_array_of_another_segment_is_refused(tmp_path):
    np.save(tmp_path / "n.npy", np.arange(3))
    with pytest.raises(CorruptDatastore, match="5 int32 positions"):
        NgramsView(tmp_path / "n.npy", np.arange(6), np.array([0]))
