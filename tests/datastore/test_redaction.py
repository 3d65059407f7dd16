"""The law of passages: a store after their removal is the store that the document was added to without them."""

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datastore.compaction import compact
from datastore.errors import BadArrays
from datastore.optout import opt_out
from datastore.passage_optout import remove_passages
from datastore.records import DocumentFacts, EncodedDocument
from datastore.redaction import normalized, without_sentences
from datastore.store import SEGMENTS, Datastore

END = 0


def document(name: str, seed: int, sizes: Sequence[int], vocabulary: int = 3) -> EncodedDocument:
    """A document whose sentences have so many tokens and characters; few words, so that they repeat."""
    random = np.random.default_rng(seed)
    n = sum(sizes)
    ends = np.cumsum(sizes, dtype=np.int64)
    return EncodedDocument(
        DocumentFacts(name, digest=hashlib.sha256(name.encode()).hexdigest()),
        "".join(random.choice(list("abcdéf"), n)),
        np.append(random.integers(1, vocabulary + 1, n), END),
        random.integers(-2, 3, (n, 4)).astype(np.float16),
        np.stack([ends - np.asarray(sizes), ends], axis=1).reshape(-1, 2),
        np.append(np.repeat(np.arange(len(sizes)), sizes), len(sizes) - 1),
    )


@pytest.fixture
def redundant() -> list[EncodedDocument]:
    """Documents of three words, so that most n-grams occur everywhere and cross most holes."""
    return [document(f"doc-{i}", i, [3, 1, 4, 2, 5, 1 + i]) for i in range(5)]


def files(store: Datastore) -> list[dict[str, str]]:
    folders = sorted((store.path / SEGMENTS).iterdir())
    return [
        {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in sorted(folder.iterdir())} for folder in folders
    ]


def neighbors(store: Datastore, queries: np.ndarray, k: int) -> list:
    """What a search finds, with sentences in place of entry ids."""
    found = store.search(queries, k, 4)
    rows = []
    for distances, entries, values in zip(found.squared_distances, found.entries, found.values, strict=True):
        places = store.locate(entries[entries >= 0], found.epoch)
        rows.append((distances.tobytes(), values.tobytes(), [(place.document, place.sentence) for place in places]))
    return rows


def ngrams(store: Datastore, contexts: list[list[int]]) -> tuple:
    found = store.continuations(contexts, [10**6, 3, 1])
    counts = [store.occurrences(context).count for context in contexts]
    arrays = (found.lengths, found.counts, found.bounds, found.tokens, found.token_counts)
    return (*(array.tolist() for array in arrays), counts)


def every_context(longest: int = 4) -> list[list[int]]:
    """All sequences of the three words up to that length, and some longer ones."""
    contexts: list[list[int]] = [[]]
    for context in contexts:
        if len(context) < longest:
            contexts.extend([*context, word] for word in (1, 2, 3))
    random = np.random.default_rng(0)
    return contexts[1:] + [random.integers(1, 4, 12).tolist() for _ in range(20)]


SETS = {
    "the first": [(0, 1)],
    "one in the middle": [(2, 3)],
    "the last": [(5, 6)],
    "two apart": [(1, 2), (3, 5)],
    "all but one token": [(0, 1), (2, 6)],
    "all": [(0, 6)],
}


@pytest.mark.parametrize("gone", SETS.values(), ids=SETS.keys())
@pytest.mark.parametrize("cut", [1 << 20, 40], ids=["one segment", "many segments"])
def test_after_a_removal_a_store_answers_and_is_as_if_the_passages_had_never_come(
    make_store, redundant, queries, now, gone, cut
):
    store = make_store(redundant[:3], redundant[3:], max_segment_positions=cut)
    never = make_store(
        [without_sentences(d, gone) if d.facts.id in ("doc-1", "doc-3") else d for d in redundant],
        max_segment_positions=cut,
    )
    contexts = every_context() + [d.tokens[:-1].tolist() for d in redundant]
    whole = ngrams(store, contexts), neighbors(store, queries, 7), store.n_entries
    for name in ("doc-1", "doc-3"):
        remove_passages(store, name, gone, now=now)
    expected = ngrams(never, contexts), neighbors(never, queries, 7), never.n_entries
    assert whole != expected  # the control: the passages did have a part in the answers
    for handle in (store, Datastore.open(store.path)):
        assert (ngrams(handle, contexts), neighbors(handle, queries, 7), handle.n_entries) == expected
    compact(store)
    assert files(store) == files(never)
    for handle in (store, Datastore.open(store.path)):
        assert (ngrams(handle, contexts), neighbors(handle, queries, 7), handle.n_entries) == expected


ranges = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 3)), min_size=1, max_size=3)


@given(
    sizes=st.lists(st.lists(st.integers(0, 4), min_size=4, max_size=6), min_size=2, max_size=4),
    steps=st.lists(st.tuples(st.sampled_from(["passages", "compact", "document"]), st.integers(0, 3), ranges)),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_order_of_removals_and_compactions_ends_in_the_same_place(make_store, queries, now, sizes, steps):
    kept = {f"doc-{i}": document(f"doc-{i}", i, part) for i, part in enumerate(sizes)}
    store = make_store(list(kept.values()))
    for step, number, found in steps:
        name = f"doc-{number}"
        if step == "compact":
            compact(store)
        elif name in kept and step == "document":
            opt_out(store, name, now=now)
            del kept[name]
        elif name in kept:
            wanted = [(first, min(first + n, len(kept[name].sentences))) for first, n in found]
            remove_passages(store, name, wanted, now=now)
            kept[name] = without_sentences(kept[name], wanted)
        for document_left in kept.values():
            assert store.live_entries(document_left.facts.id) == len(document_left.keys)
    never = make_store(list(kept.values()))
    contexts = every_context(3)
    assert ngrams(store, contexts) == ngrams(never, contexts)
    assert neighbors(store, queries, 9) == neighbors(never, queries, 9)
    assert store.n_entries == never.n_entries
    compact(store)
    assert files(store) == files(never)
    store.close(), never.close()


def by_hand(runs: list[list[int]], pattern: list[int]) -> Counter:
    m = len(pattern)
    return Counter(run[p] for run in runs for p in range(m, len(run)) if run[p - m : p] == pattern)


def test_no_match_runs_over_a_hole_by_counting_by_hand(make_store, now):
    tokens = [1, 2, 3, 9, 9, 1, 2, 3, 4, 1, 2, 3]
    made = dataclasses.replace(document("doc", 0, [3, 2, 4, 3]), tokens=np.array([*tokens, END]))
    store = make_store([made])
    assert store.occurrences([9, 1, 2]).count == 1
    remove_passages(store, "doc", [(1, 2)], now=now)
    runs = [[1, 2, 3], [1, 2, 3, 4, 1, 2, 3, END]]
    for pattern in ([1], [1, 2], [3], [9], [3, 1], [9, 1], [9, 1, 2], [3, 9], [2, 3, 1, 2], [3, 4, 1]):
        expected = by_hand(runs, pattern)
        assert store.occurrences(pattern).count == expected.total(), pattern
    found = store.continuations([[9, 9, 1, 2], [2, 3, 4]])
    assert found.lengths.ravel().tolist() == [2, 3]
    # Entries are named as before: the second run begins behind the two tokens that went.
    assert store.occurrences([1, 2]).entries.tolist() == [1, 6, 10]


def test_without_sentences_keeps_numbers_and_drops_what_touches_them():
    made = document("doc", 3, [2, 3, 2])
    left = without_sentences(made, [(1, 2)])
    assert left.text == made.text[:2] + made.text[5:]
    assert left.sentences.tolist() == [[0, 2], [2, 2], [2, 4]]
    assert left.tokens.tolist() == made.tokens[[0, 1, 5, 6, 7]].tolist()
    assert left.token_sentences.tolist() == [0, 0, 2, 2, 2]
    # The entry at token 1 has its value in the removed sentence, and the one at token 4 its key.
    assert left.keys.tolist() == made.keys[[0, 5, 6]].tolist()
    assert (left.breaks.tolist(), left.entries.tolist()) == ([2], [0, 2, 3])
    assert left.facts == made.facts
    again = without_sentences(left, [(1, 2)])
    assert (again.text, again.tokens.tolist(), again.breaks.tolist()) == (left.text, left.tokens.tolist(), [2])


def test_the_end_of_text_stays_alone_where_the_last_sentence_goes():
    made = document("doc", 3, [2, 3])
    left = without_sentences(made, [(1, 2)])
    assert (left.tokens.tolist(), left.breaks.tolist()) == ([*made.tokens[:2].tolist(), END], [2])
    assert left.keys.tolist() == made.keys[:1].tolist()
    nothing = without_sentences(made, [(0, 2)])
    assert (nothing.text, nothing.tokens.tolist(), len(nothing.keys), len(nothing.breaks)) == ("", [END], 0, 0)


@pytest.mark.parametrize("wrong", [[], [(0, 0)], [(2, 1)], [(-1, 1)], [(0, 7)], [(0, 1), (6, 7)]])
def test_ranges_that_are_none_are_refused(make_store, redundant, now, wrong):
    with pytest.raises(BadArrays, match=r"are no range of the 6|at least one sentence"):
        normalized(wrong, 6)
    with pytest.raises(BadArrays):
        remove_passages(make_store(redundant), "doc-1", wrong, now=now)


def test_ranges_that_touch_or_overlap_are_one():
    assert normalized([(4, 5), (0, 2), (2, 3), (1, 3)], 6) == ((0, 3), (4, 5))


@pytest.mark.parametrize("breaks", [[0], [4], [2, 2], [3, 1]])
def test_breaks_out_of_place_are_refused(breaks):
    made = document("doc", 3, [3])
    with pytest.raises(BadArrays, match="breaks must increase and lie from 1 to 3"):
        dataclasses.replace(made, breaks=np.array(breaks), keys=made.keys[: 3 - len(breaks)])
