"""Verification asks files, not assurances: a store that says one thing and holds another is found out."""

import dataclasses
import shutil

import numpy as np
import pytest
from sqlalchemy import delete, select, update

from datastore import tables
from datastore.codecs import CENTROIDS, CODEC
from datastore.compaction import compact
from datastore.errors import CorruptDatastore, UnknownDocument, VerificationFailed
from datastore.optout import opt_out
from datastore.passage_optout import remove_passages
from datastore.receipts import Receipt, sign_receipt
from datastore.records import DocumentFacts, EncodedDocument
from datastore.signing import load_key
from datastore.store import SEGMENTS, Datastore
from datastore.verification import _BLOCK, MAX_LIVE_RUN, MIN_TEXT_BYTES, PROBE_BYTES, scan, verify, verify_files
from datastore.writer import add


def forge(store: Datastore, document: str, **columns: object) -> None:
    """Say something else of ``document`` in the catalog, without telling anyone."""
    with store.catalog._writer.begin() as connection:
        here = tables.documents.c.id == document
        connection.execute(update(tables.documents).where(here).values(**columns))


def promise(signer: Datastore, about: str, now, **facts: object) -> Receipt:
    """A receipt, rightly signed, of a removal that did not happen."""
    fields = {"store": signer.id, "document": about, "digest": signer.document(about).facts.digest, "n_entries": 1}
    fields |= {"accepted_at": now.isoformat(), "epoch": 1} | facts
    return sign_receipt(fields, "00" * 32, load_key(signer.path, signer.manifest.public_key))


@pytest.fixture
def store(make_store, documents) -> Datastore:
    return make_store(documents)


def test_what_holds_is_told_line_by_line(store, documents, now):
    receipt, text = opt_out(store, "doc-4", now=now), documents[4].text
    lines = verify(store, receipt, text)
    live = [
        "its longest run in live documents: 5 characters, 'doc-1' at 1, '10. w'",
        "no live document copies it: 0 live entries can be attributed to it",
        "each of 3 views holds the entries of the catalog's documents and no others",
    ]
    assert lines[1:] == [
        "none of its 12 entries can be retrieved; the store is at epoch 2",
        "its bytes are still in the files, out of service, until `silo datastore compact`",
        *live,
    ]
    with pytest.raises(VerificationFailed, match=r"text\.bin holds"):
        scan(store.path, text)
    compact(store)
    for handle in (store, Datastore.open(store.path)):
        assert verify(handle, receipt, text)[2:] == [
            "it was erased: no segment holds it",
            "no file of the store holds 48 bytes in a row of the text",
            *live,
        ]
    assert len(verify(store, receipt)) == 4


def test_a_receipt_for_a_document_that_is_served_is_broken(store, now):
    with pytest.raises(VerificationFailed, match="'doc-4' is live in the store's catalog"):
        verify(store, promise(store, "doc-4", now))


def test_a_document_that_the_catalog_brought_back_is_found(store, now):
    receipt = opt_out(store, "doc-4", now=now)
    forge(store, "doc-4", state="live", removed_epoch=None)
    for handle in (store, Datastore.open(store.path)):
        with pytest.raises(VerificationFailed, match="live"):
            verify(handle, receipt)


def test_entries_that_can_still_be_retrieved_are_counted(store, now):
    receipt = promise(store, "doc-4", now)
    assert store.live_entries("doc-4") == 12
    forge(store, "doc-4", state="removed", removed_epoch=2)
    with pytest.raises(VerificationFailed, match="12 entries of 'doc-4' can still be retrieved"):
        verify(store, receipt)
    with pytest.raises(VerificationFailed, match="0 leaves and did not grow from that one"):
        verify(Datastore.open(store.path), receipt)  # the control: who opens the store now does not serve them


def test_a_log_that_lost_the_receipt_s_leaf_is_found(store, now):
    receipt = opt_out(store, "doc-4", now=now)
    opt_out(store, "doc-5", now=now)
    verify(store, receipt)
    with store.catalog._writer.begin() as connection:
        connection.execute(update(tables.log).where(tables.log.c.leaf == 0).values(commitment="0" * 64))
    with pytest.raises(VerificationFailed, match="has 2 leaves and did not grow from that one"):
        verify(store, receipt)


def test_a_document_that_was_erased_in_the_catalog_alone_is_found_in_its_segment(store, now):
    receipt = opt_out(store, "doc-4", now=now)
    forge(store, "doc-4", state="erased", segment=None)
    with pytest.raises(VerificationFailed, match="holds 10 documents; the catalog knows 9"):
        verify(store, receipt)


def test_a_segment_that_a_killed_compaction_left_behind_is_found(store, documents, now):
    receipt = opt_out(store, "doc-4", now=now)
    (old,) = (store.path / SEGMENTS).iterdir()
    shutil.copytree(old, store.path / "aside")
    compact(store)
    (store.path / "aside").rename(old)
    with pytest.raises(VerificationFailed, match="left behind; run `silo datastore compact`"):
        verify(store, receipt)
    compact(store)
    verify(store, receipt, documents[4].text)


def test_a_segment_that_is_being_written_is_none_that_was_left_behind(store, documents, now):
    receipt = opt_out(store, "doc-4", now=now)
    compact(store)

    def encoding():
        yield dataclasses.replace(
            documents[0], facts=dataclasses.replace(documents[0].facts, id="new", digest="e" * 64)
        )
        verify(store, receipt)

    assert add(store, encoding()).n_documents == 1


PLACES = ["note.txt", "segments/00000002/note.txt", "segments/.tmp-x", "catalog.sqlite-journal", "deep/er/backup.bin"]


@pytest.mark.parametrize("place", PLACES)
def test_bytes_that_remain_after_erasure_are_shown(store, documents, now, place):
    receipt, text = opt_out(store, "doc-9", now=now), documents[9].text
    compact(store)
    verify(store, receipt, text)
    planted = store.path / place
    planted.parent.mkdir(parents=True, exist_ok=True)
    planted.write_bytes(b"\0before" + text.encode()[5:] + b"after\0")
    with pytest.raises(VerificationFailed, match=f"{planted.name} holds .* at byte") as caught:
        verify(store, receipt, text)
    assert str(planted) in str(caught.value)


@pytest.mark.parametrize("start", range(0, 100, 7))
def test_any_run_of_twice_the_probe_is_found(tmp_path, start):
    text = "".join(f"{i:03}" for i in range(70))
    (tmp_path / "file").write_bytes(b"\xff" * 9 + text.encode()[start : start + 2 * PROBE_BYTES])
    with pytest.raises(VerificationFailed):
        scan(tmp_path, text)
    (tmp_path / "file").write_bytes(text.encode()[start : start + PROBE_BYTES // 3])
    scan(tmp_path, text)


@pytest.mark.parametrize("text", ["", "   \n" * 40, "w"], ids=["empty", "blank", "one letter"])
def test_a_text_that_lies_anywhere_by_chance_accuses_nobody(store, now, text):
    receipt = opt_out(store, "doc-4", now=now)
    compact(store)
    looked = "files were not searched" if len(text) < MIN_TEXT_BYTES else "no file of the store holds"
    assert looked in verify(store, receipt, text)[3]


def test_the_same_text_under_another_id_is_named(store, documents, now):
    twin = dataclasses.replace(documents[4], facts=dataclasses.replace(documents[4].facts, id="the twin"))
    add(store, [twin])
    receipt = opt_out(store, "doc-4", now=now)
    with pytest.raises(VerificationFailed, match="the same text is live under other ids: the twin"):
        verify(store, receipt)
    opt_out(store, "the twin", now=now)
    verify(store, receipt)


def test_a_receipt_of_another_store_is_refused(store, make_store, documents, now):
    other = make_store(documents)
    receipt = opt_out(other, "doc-4", now=now)
    opt_out(store, "doc-4", now=now)
    with pytest.raises(VerificationFailed, match=f"of store {other.id}; this one is {store.id}"):
        verify(store, receipt)
    # Nor does it help to sign with one's own key what is said of this store.
    with pytest.raises(VerificationFailed, match=r"the receipt is by key .* none of the 1 keys"):
        verify(store, promise(other, "doc-4", now, store=store.id))


def test_a_receipt_for_another_text_or_for_nothing_is_refused(store, now):
    opt_out(store, "doc-4", now=now)
    with pytest.raises(VerificationFailed, match="by another digest"):
        verify(store, promise(store, "doc-4", now, digest="9" * 64))
    with pytest.raises(UnknownDocument, match="'nobody'"):
        verify(store, promise(store, "doc-4", now, document="nobody"))


def test_a_store_that_forgot_the_document_is_refused(store, now):
    receipt = opt_out(store, "doc-4", now=now)
    with store.catalog._writer.begin() as connection:
        connection.execute(delete(tables.documents).where(tables.documents.c.id == "doc-4"))
    with pytest.raises(UnknownDocument):
        verify(store, receipt)


def test_an_edited_receipt_is_refused_before_the_store_is_asked(store, now):
    receipt = opt_out(store, "doc-4", now=now)
    with pytest.raises(VerificationFailed, match="was edited"):
        verify(store, dataclasses.replace(receipt, n_entries=99))


@pytest.mark.parametrize("name", [CENTROIDS, CODEC, "manifest.json", "fitted-on.jsonl", "keys.faiss", "text.bin"])
def test_files_that_changed_under_a_running_store_are_found(store, name):
    assert "1 segments" in verify_files(store)[0]
    (path,) = store.path.rglob(name)
    data = path.read_bytes()
    path.unlink()  # not in place: the running store has the old file mapped
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(CorruptDatastore, match=name):
        verify_files(store)


def test_the_catalog_keeps_of_an_erased_document_only_what_bars_its_return(store, now):
    forge(store, "doc-4", title="A Title To Be Forgotten", url="https://forgotten.example/path")
    opt_out(store, "doc-4", now=now)
    compact(store)
    for name in ("A Title To Be Forgotten", "https://forgotten.example/path", "owner of doc-4"):
        scan(store.path, name)
    with store.catalog.read() as connection:
        row = connection.execute(select(tables.documents).where(tables.documents.c.id == "doc-4")).one()
    assert {row.license, row.source, row.title, row.owner, row.url} == {""}
    assert (row.metadata, row.digest, row.segment) == ("{}", store.document("doc-4").facts.digest, None)


QUOTED = [
    "The keeper of the northern light counted every ship that passed him for some thirty long years of his life. ",
    "He wrote each of their names into a thick green book, which nobody else was ever allowed to open or to see. ",
    "When the book was found in the cellar, after the great storm, not a single one of all its pages was missing. ",
]
OTHERS = ["Our town has many stories worth telling to a guest. ", "The ferry leaves at noon. "]


def story(name: str, sentences: list[str]) -> EncodedDocument:
    """A document of five tokens to a sentence."""
    sizes = np.array([len(sentence) for sentence in sentences])
    n, ends = 5 * len(sizes), np.cumsum(sizes)
    return EncodedDocument(
        DocumentFacts(name, digest=name.encode().hex().rjust(64, "0")),
        "".join(sentences),
        np.arange(n + 1) % 50,
        np.zeros((n, 4), np.float16),
        np.stack([ends - sizes, ends], axis=1),
        np.append(np.repeat(np.arange(len(sizes)), 5), len(sizes) - 1),
    )


@pytest.fixture
def host(make_store) -> Datastore:
    return make_store([story("own", QUOTED), story("host", [OTHERS[0], *QUOTED, OTHERS[1]])])


def test_a_copy_that_is_live_in_another_document_is_found_and_is_gone_with_its_passages(host, now):
    receipt, text = opt_out(host, "own", now=now), "".join(QUOTED)
    for _ in range(2):
        with pytest.raises(
            VerificationFailed, match=r"'host' is live and has 325 characters in a row .* 16 live"
        ) as told:
            verify(host, receipt, text)
        assert "remove-passages STORE host" in str(told.value)
        compact(host)
    taken = remove_passages(host, "host", [(1, 4)], now=now)
    with pytest.raises(VerificationFailed, match=r"text\.bin holds"):
        verify(host, receipt, text)  # its own document is erased; what is left of the copy waits for compaction
    assert "0 live entries can be attributed" in verify(host, taken, text)[-2]
    compact(host)
    assert "0 live entries can be attributed" in verify(host, receipt, text)[-2]
    assert verify(host, taken, text)[1:4] == [
        "none of the 16 entries of the passages in 'host' can be retrieved; the store is at epoch 6",
        "their bytes are erased",
        "no file of the store holds 48 bytes in a row of the text",
    ]


def test_a_short_quotation_is_told_and_accuses_nobody(make_store, now):
    quoted = "".join(QUOTED)[:MAX_LIVE_RUN]
    store = make_store([story("own", QUOTED), story("host", [OTHERS[0], f"{quoted}] "])])
    receipt = opt_out(store, "own", now=now)
    compact(store)
    lines = verify(store, receipt, "".join(QUOTED))
    assert "no file of the store holds 48 bytes in a row of the text, but for 7 places in live documents" in lines
    assert f"its longest run in live documents: {MAX_LIVE_RUN} characters, 'host' at 52" in lines[4]
    assert lines[5].startswith("'host' resembles it: 71%, 38 words in a row, sentences 1-1, 6 live entries")


def test_a_receipt_for_passages_that_are_served_is_broken(host, now):
    receipt = promise(host, "host", now, sentences=((1, 3),))
    with pytest.raises(
        VerificationFailed, match=r"takes sentences \(\(1, 3\),\) out of 'host'; the catalog knows \(\)"
    ):
        verify(host, receipt)
    remove_passages(host, "host", [(1, 2)], now=now)
    with pytest.raises(VerificationFailed, match=r"the catalog knows \(\(1, 2\),\)"):
        verify(host, receipt)


def test_entries_of_passages_that_can_still_be_retrieved_are_counted(host, now):
    receipt = remove_passages(host, "host", [(1, 2)], now=now)
    verify(host, receipt)
    host._known[1].masks[0].flags[:] = True
    with pytest.raises(VerificationFailed, match="6 entries of the passages in 'host' can still be retrieved"):
        verify(host, receipt)


@pytest.mark.parametrize("name", ["keys", "ngrams"])
def test_a_view_that_still_holds_what_was_erased_is_found(host, now, name):
    old = host.segment("00000001")
    receipt = opt_out(host, "own", now=now)
    compact(host)
    verify(host, receipt)
    segment = host.segment("00000002")
    stale = getattr(old, name)
    segment.views = tuple(stale if view is getattr(segment, name) else view for view in segment.views)
    with pytest.raises(
        VerificationFailed, match=f"the view {type(stale).__name__} of segment 00000002 holds 40 entries"
    ):
        verify(host, receipt)


@pytest.mark.parametrize("before", [0, _BLOCK - 60, _BLOCK - 30, _BLOCK, 2 * _BLOCK - 47, 2 * _BLOCK + 5])
def test_a_run_is_found_over_the_edges_of_the_blocks_that_a_file_is_read_in(tmp_path, before):
    text = "".join(QUOTED)
    with (tmp_path / "file").open("wb") as file:
        file.write(bytes(before) + text.encode()[: 2 * PROBE_BYTES] + bytes(100))
    with pytest.raises(VerificationFailed, match=f"at byte {before}"):
        scan(tmp_path, text)
    (tmp_path / "file").write_bytes(bytes(before + 300))
    assert scan(tmp_path, text) == 0
