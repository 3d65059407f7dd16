"""The passages view and a ranking by hand are asked the same questions."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datastore import hiding
from datastore.compaction import compact
from datastore.errors import BadArrays, CorruptDatastore, UnknownDocument
from datastore.fingerprints import hashes, words
from datastore.optout import opt_out
from datastore.passage_optout import remove_passages
from datastore.passages import (
    FILE_NAME,
    POSTINGS,
    PassageSettings,
    PassagesView,
    cut_passages,
    index_passages,
    passage_texts,
    ranges_of,
    vector_codes,
)
from datastore.ranking import K1, RANK_OFFSET, B, bm25, dense, fuse
from datastore.records import DocumentFacts, EncodedDocument
from datastore.redaction import without_sentences
from datastore.store import SEGMENTS, Datastore
from datastore.views import LiveMask
from datastore.writer import add

MAX_TOKENS = 6
E = 24
PLAIN = PassageSettings(MAX_TOKENS)
VECTORS = PassageSettings(MAX_TOKENS, "made-up", "made-up", E)
QUERY = np.eye(E, dtype=np.float32)[3]


def document(name: str, sentences: Sequence[str], *, vectors: bool = False) -> EncodedDocument:
    """A document of ``sentences`` of words, a token for each word."""
    tokens = [(i, word) for i, sentence in enumerate(sentences) for word in sentence.split()]
    texts = [f"{sentence}. " for sentence in sentences]
    ends = np.cumsum([0, *map(len, texts)])
    made = EncodedDocument(
        DocumentFacts(name, digest=hashlib.sha256(name.encode()).hexdigest()),
        "".join(texts),
        np.array([*(1 + len(word) % 40 for _, word in tokens), 0]),
        np.zeros((len(tokens), 4), np.float16),
        np.stack([ends[:-1], ends[1:]], axis=1).astype(np.int64).reshape(-1, 2),
        np.array([*(i for i, _ in tokens), max(len(sentences) - 1, 0)]),
    )
    return replace(made, passage_vectors=unit(passage_texts(made, MAX_TOKENS))) if vectors else made


def unit(texts: Sequence[str]) -> np.ndarray:
    """A unit vector of each text that depends on nothing else, as an encoder makes it."""
    seeds = [int(hashes([text])[0]) % (1 << 32) for text in texts]
    rows = np.array([np.random.default_rng(seed).standard_normal(E) for seed in seeds]).reshape(-1, E)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def by_hand(documents: Sequence[EncodedDocument], query: str, k: int) -> list[tuple[str, int, float]]:
    """(document, passage, score), for ``bm25``: term by term in the order of their hashes."""
    passages = [(d.facts.id, i, words(t)) for d in documents for i, t in enumerate(passage_texts(d, MAX_TOKENS))]
    mean = sum(len(of) for _, _, of in passages) / max(len(passages), 1) or 1.0
    scores = [0.0] * len(passages)
    for term in sorted(set(words(query)), key=lambda word: int(hashes([word])[0])):
        n, n_with = len(passages), sum(term in of for _, _, of in passages)
        weight = words(query).count(term) * (K1 + 1) * math.log(1 + (n - n_with + 0.5) / (n_with + 0.5))
        for i, (_, _, of) in enumerate(passages):
            scores[i] += weight * (of.count(term) / (of.count(term) + K1 * (1 - B + B * (len(of) / mean))))
    best = sorted((-score, i) for i, score in enumerate(scores) if score > 0)[:k]
    return [(passages[i][0], passages[i][1], -score) for score, i in best]


def answer(store: Datastore, query: str, k: int = 5, **how) -> list[tuple[str, int, float]]:
    found = store.passages(query, k, **how)
    assert found.epoch == store.epoch
    return list(zip(found.documents, found.numbers.tolist(), found.scores.tolist(), strict=True))


def everything(store: Datastore) -> list:
    """What every scorer says to some questions, to the bit."""
    asked = [("bm25", None), ("dense", QUERY), ("fused", QUERY)]
    questions = ["a b", "c", "d d e", "w01 w12 w33", "nothing"]
    return [answer(store, q, k, scorer=s, vector=v) for q in questions for s, v in asked for k in (1, 7, 300)]


def library(n: int, *, vectors: bool = True) -> list[EncodedDocument]:
    random = np.random.default_rng(2)
    common = list("aaaaabbbccde")
    return [
        document(
            f"doc-{i}",
            [" ".join([f"w{i}{j}", *random.choice(common, random.integers(0, 8))]) for j in range(2 + i % 5)],
            vectors=vectors,
        )
        for i in range(n)
    ]


def files(store: Datastore) -> list[dict[str, str]]:
    folders = sorted((store.path / SEGMENTS).iterdir())
    return [{f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in folder.iterdir()} for folder in folders]


texts = st.lists(st.lists(st.sampled_from("abcde"), max_size=9).map(" ".join), max_size=6)


@given(
    library=st.lists(texts, max_size=7),
    copies=st.integers(0, 2),
    queries=st.lists(st.lists(st.sampled_from("abcdez"), max_size=4).map(" ".join), max_size=4),
    gone=st.sets(st.integers(0, 8)),
    cut=st.sampled_from([10, 30, 1 << 20]),
    k=st.integers(1, 12),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_score_is_the_one_added_up_by_hand(make_store, now, library, copies, queries, gone, cut, k):
    documents = [document(f"{i}", sentences) for i, sentences in enumerate([*library, *library[:copies]])]
    store = make_store(documents, max_segment_positions=cut, passages=PLAIN)
    live = dict(enumerate(documents))

    def check() -> None:
        for query in queries:
            assert answer(store, query, k) == by_hand(list(live.values()), query, k)

    check()
    for i in sorted(gone & live.keys()):
        opt_out(store, f"{i}", now=now)
        del live[i]
    check()
    compact(store)
    check()
    store.close()


@pytest.mark.parametrize("gone", [[], [0], [3, 9], [1, 2, 3], range(11), range(12)], ids=str)
@pytest.mark.parametrize("cut", [1 << 20, 60], ids=["one segment", "many segments"])
def test_after_a_removal_all_scorers_answer_as_if_the_document_had_never_been(make_store, now, gone, cut):
    documents = library(12)
    store = make_store(documents[:5], documents[5:], max_segment_positions=cut, passages=VECTORS)
    before = everything(store)
    for i in gone:
        opt_out(store, f"doc-{i}", now=now)
    kept = [d for i, d in enumerate(documents) if i not in gone]
    never = make_store(kept, max_segment_positions=cut, passages=VECTORS)
    elsewhere = make_store(kept, passages=VECTORS)
    assert everything(store) == everything(never) == everything(elsewhere)
    assert (everything(store) == before) == (list(gone) == [])  # the control
    compact(store)
    assert everything(store) == everything(never)
    assert files(store) == files(never)


def test_a_hidden_document_moves_no_score_and_comes_back_as_it_was(make_store):
    documents = library(12)
    store = make_store(documents, passages=VECTORS)
    shown, hidden = everything(store), everything(make_store(documents[:4] + documents[5:], passages=VECTORS))
    assert shown != hidden
    with store.catalog.change() as connection:
        hiding.hide(connection, "doc-4")
    assert everything(store) == hidden
    with store.catalog.change() as connection:
        hiding.release(connection, "doc-4")
    assert everything(store) == shown


def test_a_removal_through_another_handle_counts_at_once(make_store, now):
    store = make_store(library(6), passages=VECTORS)
    assert [name for name, _, _ in answer(store, "w31")] == ["doc-3"]
    opt_out(Datastore.open(store.path), "doc-3", now=now)
    assert answer(store, "w31") == []
    assert {name for name, _, _ in answer(store, "", 300, scorer="dense", vector=QUERY)} == {
        f"doc-{i}" for i in (0, 1, 2, 4, 5)
    }


@given(seed=st.integers(0, 2**32 - 1), alive=st.sampled_from([0.0, 0.5, 0.9, 0.97, 1.0]))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_passage_is_live_only_if_all_of_its_entries_are(tmp_path, seed, alive):
    """Single sentences may leave a document that stays: their passages leave, the others are as without them."""
    random = np.random.default_rng(seed)
    sentences = [" ".join(random.choice(list("abcd"), random.integers(1, 7))) for _ in range(12)]
    whole = document("d", sentences)
    view, table = view_of(tmp_path, [whole])
    live = LiveMask(random.random(len(whole.tokens)) < alive)
    intact = [bool(live.flags[a:b].all()) for a, b in table[:, :2]]
    kept = [text for text, is_intact in zip(passage_texts(whole, MAX_TOKENS), intact, strict=True) if is_intact]
    only, _ = view_of(tmp_path / "only", [document(f"{i}", [text.strip(" .")]) for i, text in enumerate(kept)])
    assert view.living(live).n_passages == len(kept) == only.n_passages
    terms = sorted((int(h), 1) for h in hashes("abc"))
    codes = vector_codes(QUERY[None], E, "")[0]
    numbers = np.flatnonzero(intact)
    for mine, others in (
        (bm25([(view, live)], terms, 9), bm25([(only, LiveMask.all(99))], terms, 9)),
        (dense([(view, live)], codes, 9), dense([(only, LiveMask.all(99))], codes, 9)),
    ):
        assert mine[0].tolist() == numbers[others[0]].tolist()
        assert mine[1].tolist() == others[1].tolist()


def view_of(folder: Path, documents: Sequence[EncodedDocument]) -> tuple[PassagesView, np.ndarray]:
    folder.mkdir(exist_ok=True)
    rows, vectors, start = [], [np.empty((0, E), np.int16)], 0
    for d in documents:
        firsts = np.searchsorted(d.token_sentences, np.arange(len(d.sentences)))
        ranges = ranges_of(d, MAX_TOKENS)
        rows.append((start, len(d.keys), np.column_stack([firsts, d.sentences]), ranges, d.text))
        start += len(d.tokens)
        of = [text.strip(" .") for text in passage_texts(d, MAX_TOKENS)]
        vectors.append(vector_codes(unit(of), E, ""))
    arrays = index_passages(rows)
    for name, array in (arrays | {"passage-vectors.npy": np.concatenate(vectors)}).items():
        np.save(folder / name, array)
    return PassagesView(folder, start, E), arrays[FILE_NAME]


def served(store: Datastore) -> list:
    """All that the view says of each passage that it finds, and the passage's text."""
    found = store.passages("a b c d", 300)
    whole = zip(found.documents, found.numbers, found.sentences.tolist(), found.characters.tolist(), strict=True)
    return [(name, int(n), *spans, store.passage_text(name, int(n))) for name, n, *spans in whole]


GONE = {"doc-3": [(0, 1)], "doc-4": [(2, 4)], "doc-7": [(1, 2), (3, 4)], "doc-8": [(0, 5)], "doc-9": [(5, 6)]}


@pytest.mark.parametrize("vectors", [True, False], ids=["vectors", "words"])
def test_a_passage_that_loses_a_sentence_is_as_if_it_had_never_come(make_store, now, vectors):
    whole = library(14, vectors=vectors)
    how = {"passages": VECTORS if vectors else PLAIN, "max_segment_positions": 60}
    store = make_store(whole[:9], whole[9:], **how)
    ask = everything if vectors else served
    left = [without_sentences(d, GONE[d.facts.id], MAX_TOKENS) if d.facts.id in GONE else d for d in whole]
    never = make_store(left, **how)
    before = ask(store), served(store)
    for name, sentences in GONE.items():
        remove_passages(store, name, sentences, now=now)
    expected = ask(never), served(never)
    assert before[0] != expected[0] and before[1] != expected[1], "the control"
    for handle in (store, Datastore.open(store.path)):
        assert (ask(handle), served(handle)) == expected
    compact(store)
    for handle in (store, Datastore.open(store.path)):
        assert (ask(handle), served(handle)) == expected
    names = sorted(file.name for file in (store.path / SEGMENTS).iterdir())
    assert len(names) == len(list((never.path / SEGMENTS).iterdir())) > 1
    for name, other in zip(names, sorted((never.path / SEGMENTS).iterdir()), strict=True):
        for file in other.iterdir():
            assert (store.path / SEGMENTS / name / file.name).read_bytes() == file.read_bytes(), file


def test_a_passage_that_left_keeps_its_number_and_is_not_served(make_store, now):
    store = make_store(library(6), passages=VECTORS)
    texts = passage_texts(library(6)[4], MAX_TOKENS)
    assert len(texts) > 2
    (first, _), *_ = ranges_of(library(6)[4], MAX_TOKENS)[1:].tolist()
    remove_passages(store, "doc-4", [(first, first + 1)], now=now)
    for _ in range(2):
        with pytest.raises(UnknownDocument, match="passage 1 of document 'doc-4' is not served"):
            store.passage_text("doc-4", 1)
        assert [store.passage_text("doc-4", i) for i in (0, 2)] == [texts[0], texts[2]]
        compact(store)


def test_a_mask_that_loses_one_entry_is_counted_anew(tmp_path):
    view, _ = view_of(tmp_path, [document("d", ["a b c d e f", "a", "b b"])])
    live = LiveMask.all(10)
    assert [view.living(live).n_passages, view.living(live).n_words] == [2, 9]
    live.clear(7, 8)
    assert [view.living(live).n_passages, view.living(live).n_words] == [1, 6]
    live.clear(9, 10)  # the end of text, which has no entry
    assert view.living(live).flags.tolist() == [True, False]


@pytest.mark.parametrize(
    ("firsts", "n_tokens", "expected"),
    [
        ([], 0, []),
        ([0], 0, []),
        ([0], 3, [(0, 1)]),
        ([0], 99, [(0, 1)]),
        ([0, 3], 6, [(0, 2)]),
        ([0, 3], 7, [(0, 1), (1, 2)]),
        ([0, 9, 10, 12], 15, [(0, 1), (1, 4)]),
        ([0, 0, 6, 6, 8], 8, [(0, 3), (3, 5)]),
        ([0, 9, 9], 9, [(0, 3)]),
        ([0, 4, 4], 3, [(0, 3)]),
    ],
)
def test_passages_are_runs_of_whole_sentences(firsts, n_tokens, expected):
    assert cut_passages(np.array(firsts, dtype=np.int64), n_tokens, MAX_TOKENS) == expected


@given(st.lists(st.integers(0, 12), max_size=20))
def test_passages_cover_every_sentence_once_and_each_has_a_token(lengths):
    firsts, n = np.cumsum([0, *lengths])[:-1], sum(lengths)
    ranges = cut_passages(firsts, n, MAX_TOKENS)
    assert [i for a, b in ranges for i in range(a, b)] == (list(range(len(lengths))) if n else [])
    sizes = [sum(lengths[a:b]) for a, b in ranges]
    assert all(size > 0 for size in sizes)
    is_alone = [sum(length > 0 for length in lengths[a:b]) == 1 for a, b in ranges]
    assert all(size <= MAX_TOKENS or alone for size, alone in zip(sizes, is_alone, strict=True))


def test_a_passage_says_where_it_is_and_what_it_says(make_store, now):
    store = make_store([document("x", []), document("y", ["a b", "c d e", "f g h", "i"])], passages=PLAIN)
    found = store.passages("g", 3)
    assert (found.documents, found.numbers.tolist(), found.sentences.tolist()) == (("y",), [1], [[2, 4]])
    text = store.stored_text("y")
    assert text[slice(*found.characters[0])] == store.passage_text("y", 1) == "f g h. i. "
    assert store.passage_text("y", 0) == "a b. c d e. "
    for name, number in [("y", 2), ("y", -1), ("x", 0), ("z", 0)]:
        with pytest.raises(UnknownDocument):
            store.passage_text(name, number)
    opt_out(store, "y", now=now)
    with pytest.raises(UnknownDocument, match="not served"):
        store.passage_text("y", 1)


def test_a_passage_with_a_dead_entry_is_not_read(make_store):
    store = make_store([document("y", ["a b c d", "e f g", "h"])], passages=PLAIN)
    store._current().masks[0].clear(5, 6)
    assert store.passage_text("y", 0) == "a b c d. "
    with pytest.raises(UnknownDocument, match="passage 1"):
        store.passage_text("y", 1)
    assert answer(store, "f h") == []


def test_words_are_found_whatever_their_case_accents_and_punctuation(make_store):
    store = make_store([document("d", ["the Résumé", "x-ray, now"])], passages=PLAIN)
    for query in ("RESUME", "résumé!", "Xray", "x-ray"):
        assert [name for name, _, _ in answer(store, query)] == ["d"]
    assert answer(store, "resumes") == []


def test_of_equal_passages_the_one_that_came_first_is_first(make_store):
    documents = [document(f"{i}", ["a b"], vectors=True) for i in range(9)]
    store = make_store(documents, max_segment_positions=6, passages=VECTORS)
    for scorer, vector in (("bm25", None), ("dense", QUERY), ("fused", QUERY)):
        found = answer(store, "a", 4, scorer=scorer, vector=vector)
        assert [name for name, _, _ in found] == ["0", "1", "2", "3"]
        assert len({score for _, _, score in found}) == (4 if scorer == "fused" else 1)


def test_products_are_exact_whatever_the_order_of_their_sum(tmp_path):
    random = np.random.default_rng(1)
    rows = random.standard_normal((2500, 384))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    codes = vector_codes(rows, 384, "")
    one = np.array([[0, 1]])
    arrays = index_passages((2 * i, 1, np.array([[0, 0, 1]]), one, "a") for i in range(2500))
    for name, array in (arrays | {"passage-vectors.npy": codes}).items():
        np.save(tmp_path / name, array)
    found = PassagesView(tmp_path, 5000, 384).products(codes[7])
    assert found.tolist() == (codes.astype(np.int64) @ codes[7].astype(np.int64)).tolist()
    assert np.abs(found / 2048**2 - rows @ rows[7]).max() < 2e-3
    backward = np.ascontiguousarray(rows[:, ::-1])
    assert (backward @ rows[7, ::-1] != rows @ rows[7]).any()  # the control: float32 vectors depend on the order


def test_the_longest_vectors_that_are_taken_have_exact_products_too():
    for e in (1, 384, 4096):
        ones = vector_codes(np.full((1, e), 1.00099 / math.sqrt(e)), e, "").astype(np.int64)
        assert (ones**2).sum() < 1 << 24


@given(st.lists(st.permutations(range(6)).map(lambda p: p[:4]), max_size=3), st.integers(1, 8))
def test_fusion_adds_up_reciprocal_ranks(rankings, k):
    sums = {}
    for ranking in rankings:
        for rank, passage in enumerate(ranking, start=1):
            sums[passage] = sums.get(passage, 0) + 1 / (RANK_OFFSET + rank)
    expected = sorted((-score, passage) for passage, score in sums.items())[:k]
    passages, scores = fuse([np.array(ranking) for ranking in rankings], k)
    assert list(zip((-scores).tolist(), passages.tolist(), strict=True)) == expected


def test_fusion_prefers_what_both_scorers_like(make_store):
    documents = library(12)
    store = make_store(documents, passages=VECTORS)
    wanted = documents[4]
    vector = wanted.passage_vectors[1]
    text = passage_texts(wanted, MAX_TOKENS)[1]
    assert answer(store, text, 1, scorer="fused", vector=vector)[0][:2] == ("doc-4", 1)
    assert answer(store, "", 1, scorer="dense", vector=vector)[0][:2] == ("doc-4", 1)
    assert answer(store, "", 1) == []


def test_files_hold_the_entries_of_their_passages(make_store, now):
    documents = [document("x", []), document("y", ["a b c d", "e f g"]), document("z", ["h"])]
    store = make_store(documents, passages=PLAIN)
    opt_out(store, "y", now=now)
    (name,) = store._current().layout
    view = store.open_segment(name).passages
    spans = [store.open_segment(name).span(i) for i in range(3)]
    assert [view.holds(*span) for span in spans] == [0, 7, 1]
    assert [view.holds(3, 6), view.holds(0, 1), view.holds(8, 9), view.holds(0, 99)] == [3, 0, 0, 8]
    compact(store)
    (name,) = store._current().layout
    assert store.open_segment(name).passages.holds(0, 99) == 1


def test_a_store_without_documents_has_no_passages(make_store):
    for store in (make_store(passages=VECTORS), make_store([document("x", [], vectors=True)], passages=VECTORS)):
        assert everything(store) == [[]] * len(everything(store))


def test_passages_that_come_later_count_too(make_store):
    store = make_store([document("x", ["a a", "b"])], passages=PLAIN)
    add(store, [document("y", ["a"])])
    assert answer(store, "a") == by_hand([document("x", ["a a", "b"]), document("y", ["a"])], "a", 5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a", 0), "k must be at least 1"),
        (("a", 1, "tf-idf"), "bm25, dense, fused; got 'tf-idf'"),
        (("\ud800", 1), "half a character"),
        (("a", 1, "bm25", QUERY), "leave the vector out"),
        (("a", 1, "dense"), "got none"),
        (("a", 1, "fused", QUERY[None]), r"\(24,\); got shape"),
        (("a", 1, "dense", QUERY[:4]), r"\(n, 24\); got shape \(1, 4\)"),
        (("a", 1, "dense", 2 * QUERY), "of length 1"),
        (("a", 1, "dense", np.nan * QUERY), "finite"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(make_store, arguments, message):
    with pytest.raises(BadArrays, match=message):
        make_store(library(1), passages=VECTORS).passages(*arguments)


@pytest.mark.parametrize("scorer", ["dense", "fused"])
def test_a_store_without_vectors_says_so(make_store, scorer):
    store = make_store(library(1, vectors=False), passages=PLAIN)
    with pytest.raises(BadArrays, match=r"has none for its passages.*--passages"):
        store.passages("a", 1, scorer, QUERY)


@pytest.mark.parametrize(
    ("settings", "change", "message"),
    [
        (PLAIN, lambda v: v, "made to have none"),
        (VECTORS, lambda v: None, "made-up.*got none"),
        (VECTORS, lambda v: v[1:], "expected 2, got 1"),
        (VECTORS, lambda v: v[:, 1:], r"\(n, 24\)"),
        (VECTORS, lambda v: v * 1.01, "of length 1"),
        (VECTORS, lambda v: v * np.inf, "finite"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_vectors_that_do_not_fit_the_store_are_refused_and_nothing_is_added(make_store, settings, change, message):
    store = make_store(passages=settings)
    made = document("d", ["a b c d", "e f g"], vectors=True)
    with pytest.raises(BadArrays, match=message):
        add(store, [replace(made, passage_vectors=change(made.passage_vectors))])
    assert list(store.documents()) == []


@pytest.mark.parametrize(
    "bad", [(0, "", "", 0), (1, "", "", -1), (1, "encoder", "", 0), (1, "", "", 8)], ids=lambda bad: str(bad)
)
def test_settings_out_of_range_are_refused(bad):
    with pytest.raises(BadArrays, match="passage"):
        PassageSettings(*bad)


@pytest.mark.parametrize("name", [FILE_NAME, POSTINGS])
def test_arrays_of_another_shape_are_refused(tmp_path, name):
    view_of(tmp_path, [document("d", ["a b"])])
    np.save(tmp_path / name, np.load(tmp_path / name)[..., :-1])
    with pytest.raises(CorruptDatastore, match="do not fit"):
        PassagesView(tmp_path, 3, E)


def test_arrays_of_a_longer_segment_are_refused(tmp_path):
    view_of(tmp_path, [document("d", ["a b c"])])
    with pytest.raises(CorruptDatastore, match="2 positions"):
        PassagesView(tmp_path, 2, E)
