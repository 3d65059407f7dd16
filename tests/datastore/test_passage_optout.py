"""Taking passages out is an opt-out: durable, logged, repeatable, and what went does not come back."""

import dataclasses
import json
import shutil
import zlib

import numpy as np
import pytest

from datastore.catalog import FILE_NAME as CATALOG
from datastore.compaction import compact
from datastore.errors import UnknownDocument, VerificationFailed
from datastore.optout import opt_out
from datastore.passage_optout import remove_passages
from datastore.public_log import check_kept
from datastore.receipts import check_receipt, commit, receipt_from_json
from datastore.records import DocumentFacts, EncodedDocument
from datastore.store import Datastore
from datastore.writer import add

SENTENCES = [
    "The ferry leaves at noon and takes the long way round the island when the wind is from the west. ",
    "Copied words about a lighthouse keeper who counted every single passing ship for thirty years. ",
    "He wrote each name into a book, and the book was found in the cellar after the storm had gone. ",
    "Tickets are sold on board, and bicycles travel free of charge outside of the summer season. ",
]


def page(name: str, sentences: list[str], seed: int = 0) -> EncodedDocument:
    """A document with a token for each word, each word in its sentence."""
    marks = [i for i, sentence in enumerate(sentences) for _ in sentence.split()]
    ends = np.cumsum([len(sentence) for sentence in sentences])
    random = np.random.default_rng(seed)
    words = [1 + hash_of(word) for sentence in sentences for word in sentence.split()]
    return EncodedDocument(
        DocumentFacts(name, digest=f"{seed:064x}", title=f"title of {name}"),
        "".join(sentences),
        np.array([*words, 0]),
        random.integers(-2, 3, (len(words), 4)).astype(np.float16),
        np.stack([np.concatenate([[0], ends[:-1]]), ends], axis=1),
        np.array([*marks, len(sentences) - 1]),
    )


def hash_of(word: str) -> int:
    return zlib.crc32(word.encode()) % 60_000


@pytest.fixture
def store(make_store) -> Datastore:
    return make_store([page("host", SENTENCES, 1), page("other", [SENTENCES[0], SENTENCES[3]], 2)])


def test_a_receipt_names_the_sentences_and_its_commitment_binds_them(store, now):
    receipt = remove_passages(store, "host", [(2, 3), (1, 2)], now=now)
    n_words = sum(len(sentence.split()) for sentence in SENTENCES[1:3])
    assert (receipt.document, receipt.sentences, receipt.n_entries) == ("host", ((1, 3),), n_words + 1)
    assert receipt.digest == store.document("host").facts.digest
    assert (receipt.leaf_index, receipt.epoch) == (0, store.epoch)
    assert receipt.commitment == commit(receipt.salt, "host", receipt.digest, [(1, 3)])
    check_receipt(receipt)
    check_kept(store, receipt)
    assert receipt_from_json(json.loads(json.dumps(receipt.to_json()))) == receipt
    for forged in (dataclasses.replace(receipt, sentences=((1, 2),)), dataclasses.replace(receipt, sentences=())):
        with pytest.raises(VerificationFailed):
            check_receipt(forged)
    assert len({commit("s", "host", "d", which) for which in ((), [(1, 3)], [(1, 2)])}) == 3


@pytest.mark.parametrize(
    "wrong", [[[1, 1]], [[2, 1]], [[0, 1], [1, 2]], [[1, "2"]], [[1]], [None], [[-1, 2]], [[True, 2]]]
)
def test_ranges_have_one_spelling_in_a_receipt(store, now, wrong):
    value = remove_passages(store, "host", [(1, 2)], now=now).to_json()
    with pytest.raises(VerificationFailed, match="the receipt's"):
        receipt_from_json(value | {"sentences": wrong})


def test_asking_again_returns_the_same_receipt_and_other_ranges_another(store, now):
    receipt = remove_passages(store, "host", [(1, 3)], now=now)
    epoch = store.epoch
    assert remove_passages(store, "host", [(2, 3), (1, 2)], now=now) == receipt
    compact(store)
    assert remove_passages(Datastore.open(store.path), "host", [(1, 3)], now=now) == receipt
    assert store.epoch == epoch + 1
    wider = remove_passages(store, "host", [(1, 4)], now=now)
    assert (wider.leaf_index, wider.n_entries) == (1, len(SENTENCES[3].split()))
    assert remove_passages(store, "host", [(1, 2)], now=now).n_entries == 0


def test_removed_sentences_are_not_served_and_the_others_keep_their_numbers(store, now):
    assert store.sentence_text("host", 1) == SENTENCES[1]
    remove_passages(store, "host", [(1, 3)], now=now)
    for _ in range(2):
        for handle in (store, Datastore.open(store.path)):
            for i in (1, 2):
                with pytest.raises(UnknownDocument, match=f"sentence {i} of document 'host' was taken out"):
                    handle.sentence_text("host", i)
            assert [handle.sentence_text("host", i) for i in (0, 3)] == [SENTENCES[0], SENTENCES[3]]
            assert [piece for _, piece in handle.live_text("host").pieces()] == [SENTENCES[0], SENTENCES[3]]
            stored = handle.document("host")
            assert (stored.state, stored.n_sentences, stored.facts.title) == ("live", 4, "title of host")
            assert handle.live_entries("host") == stored.n_entries
            assert handle.live_entries("host", ((1, 3),)) == 0 < handle.live_entries("host", ((3, 4),))
        compact(store)


def test_a_removed_entry_is_not_located(store, now):
    (entry,) = store.occurrences([1 + hash_of("lighthouse")]).entries
    assert store.locate([entry], store.epoch)[0].sentence == 1
    remove_passages(store, "host", [(1, 2)], now=now)
    assert store.locate([entry], store.epoch) is None
    assert store.occurrences([1 + hash_of("lighthouse")]).count == 0


def test_after_compaction_no_file_has_the_passage(store, now):
    remove_passages(store, "host", [(1, 3)], now=now)
    needle = b"lighthouse keeper"

    def holding() -> list:
        return [path.name for path in sorted(store.path.rglob("*")) if path.is_file() and needle in path.read_bytes()]

    assert holding() == ["text.bin"]
    compact(store)
    assert holding() == []
    assert compact(store).n_segments_after == 1


def test_a_passage_does_not_come_back_alone_or_in_another_text(store, now):
    loose = [page("alone", SENTENCES[1:3], 5), page("around", ["Before it. ", *SENTENCES[1:3]], 6)]
    remove_passages(store, "host", [(1, 3)], now=now)
    unrelated = page("unrelated", ["Nothing in this text was ever taken out of any store, as far as one can tell. "], 7)
    added = add(store, [*loose, unrelated])
    assert ([name for name, _ in added.refused], added.n_documents) == (["alone", "around"], 1)


def test_what_is_left_of_the_document_can_be_opted_out_as_a_whole_and_then_nothing_more(store, now):
    remove_passages(store, "host", [(1, 3)], now=now)
    n_left = store.live_entries("host")
    receipt = opt_out(store, "host", now=now)
    assert (receipt.sentences, receipt.n_entries) == ((), n_left)
    with pytest.raises(UnknownDocument, match="opted out as a whole"):
        remove_passages(store, "host", [(3, 4)], now=now)
    with pytest.raises(UnknownDocument, match="was ever in this store"):
        remove_passages(store, "nobody", [(0, 1)], now=now)
    compact(store)
    assert Datastore.open(store.path).document("host").state == "erased"


def test_a_catalog_from_before_the_removal_does_not_bring_the_passage_back(store, now, tmp_path):
    store.catalog.checkpoint()
    shutil.copy(store.path / CATALOG, tmp_path / "older")
    receipt = remove_passages(store, "host", [(1, 3)], now=now)
    n_entries = store.n_entries
    store.close()
    for path in store.path.glob(f"{CATALOG}*"):
        path.unlink()
    shutil.copy(tmp_path / "older", store.path / CATALOG)
    for _ in range(2):
        reopened = Datastore.open(store.path)
        assert (reopened.n_entries, reopened.live_entries("host", ((1, 3),))) == (n_entries, 0)
        assert reopened.document("host").state == "live"
        with pytest.raises(UnknownDocument):
            reopened.sentence_text("host", 1)
        # What the journal alone knew is written now, and the same receipt is given for it.
        assert remove_passages(reopened, "host", [(1, 3)], now=now) == receipt
        assert (reopened.n_entries, reopened.occurrences([1 + hash_of("lighthouse")]).count) == (n_entries, 0)
    compact(reopened)
    assert b"lighthouse" not in next(store.path.rglob("text.bin")).read_bytes()


def test_a_removal_through_another_handle_is_seen_by_the_next_question(store, now):
    context = [1 + hash_of(word) for word in SENTENCES[1].split()]
    before = store.continuations([context[:8]]).lengths[0, 0]
    remove_passages(Datastore.open(store.path), "host", [(1, 2)], now=now)
    assert store.continuations([context[:8]]).lengths[0, 0] < before == 8


def test_passages_that_go_while_a_compaction_writes_go_with_the_next_one(store, now, monkeypatch):
    from datastore import compaction

    opt_out(store, "other", now=now)
    remove_passages(store, "host", [(1, 2)], now=now)
    copy = compaction.copy_segment

    def copied(*arguments):
        remove_passages(Datastore.open(store.path), "host", [(2, 3)], now=now)
        return copy(*arguments)

    monkeypatch.setattr(compaction, "copy_segment", copied)
    compact(store)
    text = next(store.path.rglob("text.bin")).read_bytes()
    assert (b"lighthouse" in text, b"cellar" in text) == (False, True)
    for handle in (store, Datastore.open(store.path)):
        assert handle.live_entries("host", ((1, 3),)) == 0
        assert [piece for _, piece in handle.live_text("host").pieces()] == [SENTENCES[0], SENTENCES[3]]
    monkeypatch.undo()
    compact(store)
    assert b"cellar" not in next(store.path.rglob("text.bin")).read_bytes()
