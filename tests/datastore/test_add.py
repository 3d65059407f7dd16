"""What may enter a store, and that an add which fails leaves the store as it was."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from datastore.compaction import compact
from datastore.errors import BadArrays, DatastoreError, DuplicateDocument, WriterBusy
from datastore.files import locked
from datastore.optout import opt_out
from datastore.records import DocumentFacts, EncodedDocument
from datastore.store import SEGMENTS, Datastore
from datastore.verification import verify
from datastore.writer import Encoder, add, create


def changed(document: EncodedDocument, id: str | None = None, **fields) -> EncodedDocument:  # noqa: A002
    facts = document.facts if id is None else dataclasses.replace(document.facts, id=id)
    return dataclasses.replace(document, facts=facts, **fields)


def with_digest(document: EncodedDocument, id: str, digest: str) -> EncodedDocument:  # noqa: A002
    return dataclasses.replace(document, facts=dataclasses.replace(document.facts, id=id, digest=digest))


def short(document: EncodedDocument, n: int, id: str) -> EncodedDocument:  # noqa: A002
    """The first ``n`` tokens of a document and its end."""
    return changed(
        with_digest(document, id, "f" * 64),
        text=document.text if n else "",
        tokens=np.append(document.tokens[:n], document.tokens[-1]),
        keys=document.keys[:n],
        sentences=document.sentences[:n],
        token_sentences=np.minimum(np.arange(n + 1), max(n - 1, 0)),
    )


@pytest.fixture
def as_it_was(answers, states, leftovers):
    """What must not change: answers, documents, epoch, and what lies on the disk once the next writer has been."""

    def look(store: Datastore) -> tuple:
        return answers(store), states(store), store.epoch, sorted(p.name for p in (store.path / SEGMENTS).iterdir())

    return look


REFUSED = {
    "an id that is in the store": (lambda d: changed(d, "doc-1"), DuplicateDocument, "in this store already"),
    "an id twice in a batch": (lambda d: changed(d, "doc-8"), DuplicateDocument, "twice in this batch"),
    "keys of another dimension": (
        lambda d: changed(d, keys=np.zeros((len(d.keys), 5), np.float16)),
        BadArrays,
        "must have 4 dimensions.*got 5",
    ),
    "a token beyond the type": (
        lambda d: changed(d, tokens=np.full(len(d.tokens), 1 << 16)),
        BadArrays,
        "from 0 to 65535",
    ),
    "a negative token": (lambda d: changed(d, tokens=np.full(len(d.tokens), -1)), BadArrays, "from 0 to 65535"),
    "a key beyond fp16": (
        lambda d: changed(d, keys=np.full((len(d.keys), 4), 65520.0)),
        BadArrays,
        "'doc-9'.*to be stored as fp16; got 65,520",
    ),
}


@pytest.mark.parametrize(("spoil", "error", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_a_batch_is_refused_whole_for(make_store, documents, as_it_was, spoil, error, message):
    store = make_store(documents[:6], max_segment_positions=20)
    before = as_it_was(store)
    with pytest.raises(error, match=message):
        add(store, [*documents[6:9], spoil(documents[9])])
    add(store, [])
    assert as_it_was(store) == before
    assert add(store, documents[6:]).n_documents == 4


IMPOSSIBLE = {
    "no tokens, not even the end": ({"tokens": np.empty(0, int)}, "tokens must be"),
    "tokens in rows": ({"tokens": np.zeros((13, 1), int)}, "tokens must be"),
    "tokens that are fractions": ({"tokens": np.zeros(13)}, "whole numbers"),
    "half a character": ({"text": "a \ud800 b"}, "half a character"),
    "a key too few": ({"keys": np.zeros((11, 4))}, "keys must be"),
    "NaN in a key": ({"keys": np.full((12, 4), np.nan)}, "NaN or infinite"),
    "infinity in a key": ({"keys": np.full((12, 4), np.inf)}, "NaN or infinite"),
    "sentences without ends": ({"sentences": np.zeros((12, 1), int)}, "sentences must be"),
    "a sentence beyond the text": ({"sentences": np.full((12, 2), 10**6)}, "sentences must lie"),
    "a sentence before the text": ({"sentences": np.full((12, 2), -1)}, "sentences must lie"),
    "a token in no sentence": ({"token_sentences": np.full(13, 12)}, "indices of sentences"),
    "sentences out of order": ({"token_sentences": np.arange(13)[::-1] % 12}, "must not decrease"),
}


@pytest.mark.parametrize(("fields", "message"), IMPOSSIBLE.values(), ids=IMPOSSIBLE.keys())
def test_no_document_is_made_with(documents, fields, message):
    assert len(documents[4].keys) == 12
    with pytest.raises(BadArrays, match=f"'doc-4'.*{message}"):
        changed(documents[4], **fields)


@pytest.mark.parametrize("where", [0, 5, 10], ids=["first", "between", "last"])
@pytest.mark.parametrize("n", [0, 1], ids=["empty", "one token"])
def test_a_short_document_enters_answers_and_leaves_like_any_other(
    make_store, documents, answers, queries, now, where, n
):
    tiny = short(documents[0], n, "tiny")
    batch = [*documents[:where], tiny, *documents[where:]]
    store, never = make_store(batch), make_store(documents)
    assert store.document("tiny").n_entries == store.live_entries("tiny") == n
    found = store.search(queries, 500, 4)
    places = [place.document for place in store.locate(found.entries[0][found.entries[0] >= 0].tolist(), found.epoch)]
    assert places.count("tiny") == n
    assert len(places) == sum(len(d.keys) for d in batch)
    receipt = opt_out(store, "tiny", now=now)
    assert receipt.n_entries == n
    assert answers(store) == answers(never)
    compact(store)
    assert answers(store) == answers(never)
    verify(store, receipt)


def test_a_store_of_an_empty_document_alone_answers_with_nothing(make_store, documents, queries, now):
    store = make_store([short(documents[0], 0, "empty")])
    assert (store.search(queries, 3).entries == -1).all()
    opt_out(store, "empty", now=now)
    assert compact(store).n_segments_after == 0
    assert (Datastore.open(store.path).search(queries, 3).entries == -1).all()


def test_a_document_larger_than_a_segment_gets_one_of_its_own(make_store, documents, answers):
    store, whole = make_store(documents, max_segment_positions=5), make_store(documents)
    assert len(list((store.path / SEGMENTS).iterdir())) == len(documents)
    assert answers(store) == answers(whole)


def test_an_opted_out_text_stays_out_by_id_and_by_digest_also_after_compaction(make_store, documents, answers, now):
    store = make_store(documents[:6])
    opt_out(store, "doc-2", now=now)
    again = changed(documents[9], "doc-2")
    copy = with_digest(documents[2], "another name", documents[2].facts.digest)
    for _ in range(2):
        before = answers(store)
        added = add(store, [again, copy])
        assert (added.n_documents, added.n_entries) == (0, 0)
        assert [name for name, _ in added.refused] == ["doc-2", "another name"]
        assert [reason.split(";")[0] for _, reason in added.refused] == [
            "a document of this id was opted out",
            "this text was opted out",
        ]
        assert answers(store) == before
        compact(store)
    added = add(store, [copy, documents[6]])
    assert (added.n_documents, added.n_entries, len(added.refused)) == (1, len(documents[6].keys), 1)


def test_a_text_opted_out_while_it_was_being_added_does_not_come_in(make_store, documents, answers, states, now):
    store, never = make_store(documents[:6]), make_store([*documents[:2], *documents[3:6], *documents[7:]])
    copy = with_digest(documents[6], "doc-6", documents[2].facts.digest)

    def encoding():
        yield copy
        opt_out(Datastore.open(store.path), "doc-2", now=now)
        yield from documents[7:]

    added = add(store, encoding())
    assert [name for name, _ in added.refused] == ["doc-6"]
    assert (added.n_documents, added.n_entries) == (3, sum(len(d.keys) for d in documents[7:]))
    assert "doc-6" not in states(store)
    assert answers(store) == answers(Datastore.open(store.path)) == answers(never)
    compact(store)
    assert answers(store) == answers(never)


def test_opt_outs_go_on_while_a_long_add_is_running(make_store, documents, states, now):
    store = make_store(documents[:6], max_segment_positions=20)

    def encoding():
        for i, document in enumerate(documents[6:]):
            opt_out(store, f"doc-{i}", now=now)
            assert store.live_entries(f"doc-{i}") == 0
            yield document

    add(store, encoding())
    assert [name for name, state in states(store).items() if state == "live"] == [f"doc-{i}" for i in range(4, 10)]


def test_an_add_that_breaks_off_midway_leaves_the_store_as_it_was(make_store, documents, as_it_was, leftovers):
    store = make_store(documents[:6], max_segment_positions=20)
    before = as_it_was(store)

    def encoding():
        yield from documents[6:9]
        raise RuntimeError("the encoder broke")

    with pytest.raises(RuntimeError, match="the encoder broke"):
        add(store, encoding())
    assert leftovers(store) != [], "segments were written; if none was, this test shows nothing"
    add(store, [])
    assert as_it_was(store) == before
    assert leftovers(store) == []


HOLDER = """
import sys
from pathlib import Path
from datastore.store import Datastore
from datastore.writer import writing
with writing(Datastore.open(sys.argv[1])):
    print("writing", flush=True)
    sys.stdin.read()
"""


def test_a_second_writer_is_refused_while_another_process_writes(make_store, documents, as_it_was, now):
    store = make_store(documents[:6])
    before = as_it_was(store)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-W", "ignore", "-c", HOLDER, str(store.path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment) as other:
        assert other.stdout.readline() == "writing\n"
        for attempt in (lambda: add(store, documents[6:]), lambda: compact(store)):
            with pytest.raises(WriterBusy, match="another process is writing"):
                attempt()
        assert as_it_was(store) == before
        opt_out(store, "doc-0", now=now)  # the control: an opt-out waits for no writer
        other.kill()
    assert add(store, documents[6:]).n_documents == 4, "the lock dies with the process"


@pytest.fixture
def made(tmp_path, now):
    def make(name="store", risk="PD", keys=None, **fields) -> Datastore:
        facts = [DocumentFacts("fit", digest="0" * 64, license="CC0-1.0", risk=risk)]
        keys = np.random.default_rng(1).normal(size=(20, 4)) if keys is None else keys
        settings = {"n_lists": 2, "knn_temperature": 1.0, "now": now} | fields
        return create(tmp_path / name, Encoder("f", "n", 4, 70_000), keys, facts, **settings)

    return make


UNMADE = {
    "centroids fitted on high-risk text": ({"risk": "HIGH_RISK"}, DatastoreError, "high-risk; nothing that"),
    "keys of another dimension": ({"keys": np.zeros((20, 5))}, BadArrays, r"\(m, 4\); got shape \(20, 5\)"),
    "fewer keys than lists": ({"keys": np.zeros((1, 4))}, BadArrays, "at least as many"),
    "keys with NaN": ({"keys": np.full((20, 4), np.nan)}, BadArrays, "NaN"),
    "a temperature of NaN": ({"knn_temperature": float("nan")}, ValueError, "JSON"),
}


@pytest.mark.parametrize(("fields", "error", "message"), UNMADE.values(), ids=UNMADE.keys())
def test_no_store_is_made_with(made, tmp_path, fields, error, message):
    with pytest.raises(error, match=message):
        made(**fields)
    assert list(tmp_path.iterdir()) == []


def test_a_store_is_not_made_over_another(made):
    store = made()
    with pytest.raises(DatastoreError, match="exists"):
        made()
    assert Datastore.open(store.path).id == store.id


def test_making_a_store_clears_what_a_killed_process_left_and_nothing_that_one_is_making(made, tmp_path):
    (tmp_path / ".tmp-store-dead").mkdir()
    (tmp_path / ".tmp-store-dead" / "signing-key.pem").write_text("half a key")
    (tmp_path / ".tmp-store-busy").mkdir()
    (tmp_path / ".tmp-another-dead").mkdir()
    with locked(tmp_path / ".tmp-store-busy" / "writer.lock", wait=False):
        made()
    assert sorted(p.name for p in tmp_path.iterdir()) == [".tmp-another-dead", ".tmp-store-busy", "store"]


def test_a_large_vocabulary_is_kept_whole(made, documents):
    store = made()
    assert store.manifest.token_type == "uint32"
    add(store, [changed(documents[0], tokens=np.full(len(documents[0].tokens), 69_999))])
    assert (store.search(np.zeros((1, 4)), 3, 2).values == 69_999).all()


def test_whatever_strange_lies_among_the_segments_is_cleared_by_the_next_writer(make_store, documents, leftovers):
    store = make_store(documents[:3])
    (store.path / SEGMENTS / "note.txt").write_text("left here by hand")
    (store.path / SEGMENTS / "00000099").mkdir()
    assert len(leftovers(store)) == 2
    add(store, documents[3:])
    assert leftovers(store) == []
