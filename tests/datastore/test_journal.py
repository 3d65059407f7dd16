"""The second record: an opt-out that the catalog forgot is not served, and one that both lost is not hidden."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from datastore import log_rows, tables
from datastore.backups import take_snapshot
from datastore.catalog import FILE_NAME as CATALOG
from datastore.compaction import compact
from datastore.errors import CorruptDatastore, UnknownDocument
from datastore.files import canonical_json
from datastore.journal import FILE_NAME as JOURNAL
from datastore.journal import Journal
from datastore.optout import Recovered, is_behind, opt_out, recover
from datastore.passage_optout import remove_passages
from datastore.public_log import growth_since, signed_head
from datastore.receipts import Receipt, check_in_log, receipt_from_json
from datastore.records import DocumentFacts
from datastore.restore import restore
from datastore.store import Datastore
from datastore.suppression import barred
from datastore.verification import verify
from datastore.writer import add

ROOT = Path(__file__).parents[2]


def lines(folder: Path) -> list[bytes]:
    """Those of receipts."""
    found = (folder / JOURNAL).read_bytes().splitlines()
    return [line for line in found if not line.startswith(b'{"bars":')]


def written(folder: Path) -> list[Receipt]:
    return [receipt_from_json(json.loads(line)) for line in lines(folder)]


@pytest.fixture
def rolled_back(make_store, documents, now, keep_catalog, restore_catalog):
    """A store whose catalog knows one of three opt-outs; its journal knows them all, and so do the receipts."""
    store = make_store(documents)
    receipts = [opt_out(store, "doc-3", now=now)]
    older = keep_catalog(store)
    receipts += [opt_out(store, name, now=now) for name in ("doc-5", "doc-7")]
    store.close()
    restore_catalog(store.path, older)
    return store.path, receipts


@pytest.fixture
def never(make_store, documents, answers):
    """What a store says that never had the documents of ``rolled_back``, and others named."""

    def ask(*gone: str) -> list:
        names = {"doc-3", "doc-5", "doc-7", *gone}
        return answers(make_store([d for d in documents if d.facts.id not in names]))

    return ask


def test_each_opt_out_is_a_line_and_the_line_is_its_receipt(make_store, documents, now):
    store = make_store(documents[:5], documents[5:])
    assert lines(store.path) == []
    receipts = [opt_out(store, name, now=now) for name in ("doc-3", "doc-8", "doc-3", "doc-0")]
    assert written(store.path) == [receipts[0], receipts[1], receipts[3]]
    assert lines(store.path)[0] == canonical_json(receipts[0].to_json())
    assert [(r.leaf_index, r.head.size) for r in written(store.path)] == [(0, 1), (1, 2), (2, 3)]


def test_the_log_grows_and_every_receipt_stays_in_it(make_store, documents, now):
    store = make_store(documents)
    receipts = [opt_out(store, f"doc-{i}", now=now) for i in range(7)]
    compact(store)
    head = signed_head(Datastore.open(store.path), now=now)
    assert (head.size, head.root) == (7, receipts[-1].head.root)
    for receipt in receipts:
        check_in_log(receipt, head, growth_since(store, receipt.head.size))
    with store.catalog.read() as connection:
        assert log_rows.commitments(connection) == [receipt.commitment for receipt in receipts]


def test_the_journal_says_nothing_of_title_owner_url_or_text(make_store, documents, now):
    store = make_store()
    facts = dataclasses.replace(documents[4].facts, title="A Title", url="https://example.org/x", source="A Source")
    add(store, [dataclasses.replace(documents[4], facts=facts)])
    opt_out(store, "doc-4", now=now)
    data = (store.path / JOURNAL).read_bytes()
    assert b"doc-4" in data, "the control"
    for trace in ("A Title", "example.org", "A Source", "owner of", "LicenseRef", documents[4].text[:12]):
        assert trace.encode() not in data
    bars, receipt = map(json.loads, data.splitlines())
    assert set(receipt) == {field.name for field in dataclasses.fields(Receipt)}
    assert set(bars) == {"bars", "leaf", "sha256"}


def test_compaction_leaves_the_journal_as_it_is(make_store, documents, now):
    store = make_store(documents)
    opt_out(store, "doc-4", now=now)
    before = lines(store.path)
    assert compact(store).n_erased == 1
    assert lines(store.path) == before != []


def test_what_a_restored_catalog_forgot_is_not_served_and_opening_writes_nothing(
    rolled_back, never, answers, documents, states
):
    path, receipts = rolled_back
    before = {name: (path / name).read_bytes() for name in (CATALOG, JOURNAL, "epoch")}
    store = Datastore.open(path)
    assert answers(store) == never()
    assert store.n_entries == sum(len(documents[i].keys) for i in (0, 1, 2, 4, 6, 8, 9))
    assert {name for name, state in states(store).items() if state == "removed"} == {"doc-3", "doc-5", "doc-7"}
    assert [d.facts.id for d in store.documents("removed")] == ["doc-3", "doc-5", "doc-7"]
    assert (store.live_entries("doc-5"), store.document("doc-5").n_entries) == (0, 0)
    with pytest.raises(UnknownDocument, match="not served"):
        store.sentence_text("doc-5", 0)
    for receipt in receipts:
        verify(store, receipt)
    store.close()
    assert {name: (path / name).read_bytes() for name in before} == before


def test_without_the_journal_it_would_be_served(rolled_back, never, answers):
    """The control: it is the journal, and nothing else, that knows."""
    path, _ = rolled_back
    (path / JOURNAL).write_bytes(b"")
    store = Datastore.open(path)
    assert answers(store) != never()
    assert store.live_entries("doc-5") > 0


CHANGES = {
    "recover": lambda store, documents, now: recover(store),
    "the same opt-out": lambda store, documents, now: opt_out(store, "doc-5", now=now),
    "another opt-out": lambda store, documents, now: opt_out(store, "doc-9", now=now),
    "an added document": lambda store, documents, now: add(store, [_renamed(documents[0], "new", "e" * 64)]),
    "a compaction": lambda store, documents, now: compact(store),
}


def _renamed(document, name: str, digest: str):
    return dataclasses.replace(document, facts=dataclasses.replace(document.facts, id=name, digest=digest))


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_the_catalog_learns_what_it_forgot_by(rolled_back, documents, now, change, states):
    path, receipts = rolled_back
    running = Datastore.open(path)
    change(Datastore.open(path), documents, now)
    assert not is_behind(Datastore.open(path))
    for store in (running, Datastore.open(path)):
        assert all(opt_out(store, receipt.document, now=now) == receipt for receipt in receipts)
        assert all(states(store)[receipt.document] in ("removed", "erased") for receipt in receipts)
        for receipt in receipts:
            verify(store, receipt)
            assert store.live_entries(receipt.document) == 0
    (path / JOURNAL).write_bytes(b"")
    alone = Datastore.open(path)
    assert alone.catalog.lost == [] and alone.live_entries("doc-7") == 0
    assert recover(alone) == Recovered(0, len(lines(path))) and written(path)[:3] == receipts


def test_a_forgotten_text_may_not_come_back_under_another_id(rolled_back, documents):
    path, receipts = rolled_back
    added = add(Datastore.open(path), [_renamed(documents[5], "again", receipts[1].digest)])
    assert added.refused == (("again", "this text was opted out"),)


@pytest.mark.parametrize("has_bars", [True, False])
def test_a_text_whose_bytes_are_gone_too_is_known_again_by_what_the_journal_has_of_it(
    make_store, documents, now, keep_catalog, restore_catalog, has_bars
):
    store = make_store(documents[:5])
    older = keep_catalog(store)
    add(store, documents[5:])
    opt_out(store, "doc-7", now=now)
    remove_passages(store, "doc-8", [(2, 12)], now=now)
    if not has_bars:
        (store.path / JOURNAL).write_bytes(b"".join(line + b"\n" for line in lines(store.path)))
    restore_catalog(store.path, older)
    passage = "".join(documents[8].text[a:b] for a, b in documents[8].sentences[2:12])
    texts = {"whole": documents[7].text.upper(), "passage": passage.upper(), "other": documents[9].text}
    opened = Datastore.open(store.path)
    recover(opened)
    found = {name: barred(opened.catalog, DocumentFacts(name, digest="e" * 64), text) for name, text in texts.items()}
    assert {name for name, why in found.items() if why} == ({"whole", "passage"} if has_bars else set()), found


def test_a_snapshot_of_a_store_whose_catalog_forgot_has_what_bars_near_copies(rolled_back, documents, now, tmp_path):
    path, _ = rolled_back
    keys = tmp_path / "keys"
    take_snapshot(Datastore.open(path), tmp_path / "snapshot", now=now, keys_copy=keys)
    again = restore(tmp_path / "snapshot", tmp_path / "again", keys=keys, journal=path / JOURNAL).store
    near = " ".join(documents[5].text.upper().split()[3:])
    assert barred(again.catalog, DocumentFacts("near", digest="e" * 64), near)


def test_bars_that_were_edited_are_refused_before_anything_is_written(rolled_back, documents):
    path, _ = rolled_back
    whole = (path / JOURNAL).read_bytes()
    at = whole.rindex(b'{"bars":"') + 12
    (path / JOURNAL).write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    store = Datastore.open(path)
    with pytest.raises(CorruptDatastore, match="what bars the text of opt-out 2"):
        recover(store)
    (path / JOURNAL).write_bytes(whole)
    assert recover(store) == Recovered(2, 0)


def test_an_opt_out_of_a_document_that_came_after_the_copy_stays_in_force(
    make_store, documents, now, keep_catalog, restore_catalog
):
    store = make_store(documents[:5])
    older = keep_catalog(store)
    add(store, documents[5:])
    receipt = opt_out(store, "doc-7", now=now)
    store.close()
    restore_catalog(store.path, older)
    again = Datastore.open(store.path)
    assert opt_out(again, "doc-7", now=now) == receipt
    assert add(again, [documents[7]]).refused[0][0] == "doc-7"


def test_a_running_reader_sees_an_opt_out_from_a_catalog_that_was_behind(rolled_back, never, answers, now):
    """The epochs of the copy were used before; none is used again."""
    path, receipts = rolled_back
    reader, writer = Datastore.open(path), Datastore.open(path)
    shared = reader.catalog.shared_epoch.value()
    assert answers(reader) == never()
    with pytest.raises(UnknownDocument):
        opt_out(writer, "nobody", now=now)
    assert reader.catalog.shared_epoch.value() == shared
    receipt = opt_out(writer, "doc-0", now=now)
    assert receipt.epoch > max(r.epoch for r in receipts) and receipt.leaf_index == 3
    assert reader.catalog.shared_epoch.value() > shared
    assert answers(reader) == answers(writer) == never("doc-0")


def test_recover_tells_what_it_wrote_and_writes_nothing_twice(rolled_back):
    path, receipts = rolled_back
    (path / JOURNAL).write_bytes(b"\n".join(lines(path)[1:]) + b"\n")
    store = Datastore.open(path)
    assert recover(store) == Recovered(2, 1)
    epoch = store.epoch
    assert recover(store) == Recovered(0, 0) == recover(Datastore.open(path))
    assert store.epoch == epoch
    assert sorted(written(path), key=lambda r: r.leaf_index) == receipts


def test_a_torn_last_line_is_ignored_and_written_again_by_the_next_change(make_store, documents, now, answers, never):
    store = make_store(documents)
    receipts = [opt_out(store, name, now=now) for name in ("doc-3", "doc-5", "doc-7")]
    whole, expected = (store.path / JOURNAL).read_bytes(), never()
    last = len(lines(store.path)[2]) + 1
    for cut in (1, 2, 3, last // 2, last - 1, last):
        (store.path / JOURNAL).write_bytes(whole[:-cut])
        opened = Datastore.open(store.path)
        assert answers(opened) == expected
        assert opt_out(opened, "doc-7", now=now) == receipts[2]
        recover(opened)
        assert written(store.path) == receipts or cut == 1
        opened.close()
    (store.path / JOURNAL).write_bytes(whole[:-1])
    receipts.append(opt_out(Datastore.open(store.path), "doc-0", now=now))
    assert written(store.path) == receipts
    (store.path / JOURNAL).write_bytes(whole + bytes(700))  # a tail that the file system zeroed
    assert recover(Datastore.open(store.path)) == Recovered(0, 1)
    assert written(store.path) == receipts


def test_a_torn_last_line_is_not_fatal_for_a_catalog_that_lacks_it(rolled_back, answers):
    path, _ = rolled_back
    (path / JOURNAL).write_bytes((path / JOURNAL).read_bytes()[:-40])
    store = Datastore.open(path)
    assert [r.document for r in store.catalog.lost] == ["doc-5"]


def test_a_last_line_that_lacks_only_its_end_counts(rolled_back):
    path, _ = rolled_back
    (path / JOURNAL).write_bytes((path / JOURNAL).read_bytes()[:-1])
    assert [r.document for r in Datastore.open(path).catalog.lost] == ["doc-5", "doc-7"]


def test_a_line_that_the_journal_lost_is_repaired_from_a_catalog_that_has_it(make_store, documents, now):
    store = make_store(documents)
    receipts = [opt_out(store, name, now=now) for name in ("doc-3", "doc-5", "doc-7")]
    for at in range(3):
        rest = [line for i, line in enumerate(lines(store.path)) if i != at]
        (store.path / JOURNAL).write_bytes(b"".join(line + b"\n" for line in rest))
        recover(Datastore.open(store.path))
        assert sorted(written(store.path), key=lambda r: r.leaf_index) == receipts


def _edit(at: int, **changes: object):
    def edit(found: list[bytes]) -> list[bytes]:
        value = json.loads(found[at])
        for name, change in changes.items():
            value[name] = change(value[name])
        return [*found[:at], canonical_json(value), *found[at + 1 :]]

    return edit


SHORT = {
    "without a line in the middle": (
        lambda found: [found[0], found[2]],
        "the log is shorter than its signed head of 3",
    ),
    "torn in the middle": (lambda found: [found[0], found[1][:90], found[2]], "shorter than its signed head of 3"),
    "with another document's id": (_edit(2, document=lambda name: "doc-0"), "does not hold"),
    "with another digest": (_edit(1, digest=lambda digest: "9" * 64), "does not hold"),
    "with another commitment": (_edit(1, commitment=lambda c: "9" * 64), "is not the one that was signed"),
    "with another commitment that the catalog has": (_edit(0, commitment=lambda c: "9" * 64), "different opt-outs"),
    "with a head that nobody signed": (
        _edit(2, head=lambda head: head | {"size": 2}),
        "is not the one that was signed",
    ),
    "with a head that is larger": (_edit(2, head=lambda head: head | {"size": 9}), "newest head .* does not hold"),
    "with one place taken twice": (_edit(2, leaf_index=lambda leaf: 1), "two opt-outs at place 1"),
    "with a place that is far off": (_edit(2, leaf_index=lambda leaf: 8), "shorter than its signed head"),
}


@pytest.mark.parametrize(("spoil", "message"), SHORT.values(), ids=SHORT.keys())
def test_a_store_refuses_to_serve_whose_catalog_is_older_and_whose_journal_is(rolled_back, spoil, message):
    path, _ = rolled_back
    (path / JOURNAL).write_bytes(b"".join(line + b"\n" for line in spoil(lines(path))))
    with pytest.raises(CorruptDatastore, match=message):
        Datastore.open(path)


def test_the_journal_of_another_store_is_refused(make_store, documents, now):
    one, other = make_store(documents), make_store(documents)
    opt_out(other, "doc-3", now=now)
    shutil.copy(other.path / JOURNAL, one.path / JOURNAL)
    with pytest.raises(CorruptDatastore, match=f"of another store, {other.id}"):
        Datastore.open(one.path)


def test_a_catalog_whose_log_was_cut_is_refused_unless_the_journal_has_the_rest(make_store, documents, now):
    store = make_store(documents)
    receipts = [opt_out(store, name, now=now) for name in ("doc-3", "doc-5")]
    with store.catalog._writer.begin() as connection:
        connection.execute(tables.log.delete().where(tables.log.c.leaf == 1))
    assert Datastore.open(store.path).catalog.lost == receipts[1:]
    (store.path / JOURNAL).write_bytes(b"")
    with pytest.raises(CorruptDatastore, match="the log is shorter than its signed head of 2"):
        Datastore.open(store.path)


def test_when_the_journal_cannot_be_written_nothing_is_promised_and_asking_again_is_enough(
    make_store, documents, now, monkeypatch
):
    store = make_store(documents)
    reader = Datastore.open(store.path)

    def full(self, receipts):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Journal, "append", full)
        for _ in range(2):
            with pytest.raises(OSError, match="No space left"):
                opt_out(store, "doc-3", now=now)
    assert reader.live_entries("doc-3") == 0
    assert store.catalog.shared_epoch.value() == 2 * store.epoch
    assert lines(store.path) == []
    receipt = opt_out(store, "doc-3", now=now)
    assert written(store.path) == [receipt]


def test_opt_outs_from_many_threads_are_all_in_both(make_store, documents, now):
    store = make_store(documents)
    handles = [store, Datastore.open(store.path)]
    with ThreadPoolExecutor(8) as pool:
        given = list(pool.map(lambda i: opt_out(handles[i % 2], f"doc-{i % 10}", now=now), range(30)))
    assert all(given[i] == given[i % 10] for i in range(30))
    assert written(store.path) == sorted(given[:10], key=lambda r: r.leaf_index)
    assert [r.leaf_index for r in written(store.path)] == list(range(10))


DIES = """
import os, signal, sys
from datetime import UTC, datetime
from datastore import journal
from datastore.epoch import Epoch
from datastore.optout import opt_out
from datastore.restore import restore
from datastore.store import Datastore

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def half(self, receipts):
    with self.path.open("ab") as file:
        file.write(b'{"accepted_at":"2026')
    die()

store, point = Datastore.open(sys.argv[1]), sys.argv[2]
if point == "before the commit":
    store.catalog._take_from_journal = die
elif point == "before the journal":
    journal.Journal.append = die
elif point == "in the middle of the line":
    journal.Journal.append = half
elif point == "before the sync":
    journal.os.fsync = die
elif point == "after the journal":
    even = Epoch._set
    Epoch._set = lambda self, number: die() if number % 2 == 0 else even(self, number)
opt_out(store, "doc-3", now=datetime.now(UTC))
"""
POINTS = {
    "before the commit": (False, 0),
    "before the journal": (True, 0),
    "in the middle of the line": (True, 0),
    "before the sync": (True, 1),
    "after the journal": (True, 1),
}
"""Whether the removal is in force then, and the whole lines that the journal has."""


@pytest.mark.parametrize(("point", "outcome"), POINTS.items(), ids=POINTS.keys())
def test_a_writer_may_die(make_store, documents, answers, now, point, outcome, keep_catalog, restore_catalog):
    is_out, n_lines = outcome
    store = make_store(documents)
    running, older = Datastore.open(store.path), keep_catalog(store)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "ignore", "-c", DIES, str(store.path), point]
    assert subprocess.run(command, env=environment, check=False).returncode == -signal.SIGKILL
    assert (store.path / JOURNAL).read_bytes().count(b"\n") == 2 * n_lines
    for handle in (running, Datastore.open(store.path)):
        assert (handle.live_entries("doc-3") == 0) == is_out
    receipt = opt_out(Datastore.open(store.path), "doc-3", now=now)
    assert (receipt.accepted_at != now.isoformat()) == is_out
    assert written(store.path) == [receipt]
    expected = answers(make_store([d for d in documents if d.facts.id != "doc-3"]))
    assert answers(running) == answers(Datastore.open(store.path)) == expected
    running.close(), store.close()
    restore_catalog(store.path, older)  # whatever came before: what was acknowledged outlives the catalog
    assert answers(Datastore.open(store.path)) == expected
