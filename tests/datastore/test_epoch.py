"""The number that all readers share, and what happens when the writer that was to move it dies."""

import mmap
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import select, update

from datastore import catalog_rows, tables
from datastore.epoch import Epoch
from datastore.errors import CorruptDatastore
from datastore.optout import opt_out
from datastore.store import Datastore

DIES_BEFORE_IT_IS_EVEN = """
import os, signal, sys
from datetime import UTC, datetime
from datastore.epoch import Epoch
from datastore.optout import opt_out
from datastore.store import Datastore

store, even = Datastore.open(sys.argv[1]), Epoch._set

def die(self, number):
    if number % 2 == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    even(self, number)

Epoch._set = die
opt_out(store, sys.argv[2], now=datetime.now(UTC))
"""


def die_after_committing(store: Datastore, document: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-W", "ignore", "-c", DIES_BEFORE_IT_IS_EVEN, str(store.path), document]
    assert subprocess.run(command, env=environment, check=False).returncode == -signal.SIGKILL


@pytest.fixture
def behind_its_back(make_store, documents):
    """Removes a document by hand, in the catalog alone, so that only a reader who looks there can know."""

    def remove(store: Datastore, document: str) -> None:
        with store.catalog._writer.begin() as connection:
            epoch = catalog_rows.epoch_of(connection) + 1
            here = tables.documents.c.id == document
            connection.execute(update(tables.documents).where(here).values(state="removed", removed_epoch=epoch))
            connection.execute(update(tables.state).values(epoch=epoch))

    return remove


def test_an_opt_out_whose_writer_died_is_in_force_for_running_readers_and_they_keep_looking(
    make_store, documents, answers, behind_its_back, now
):
    store = make_store(documents)
    before = answers(store)
    die_after_committing(store, "doc-3")
    assert store.catalog.shared_epoch.value() % 2 == 1
    never = documents[:3] + documents[4:]
    assert answers(store) == answers(make_store(never)) != before
    behind_its_back(store, "doc-5")
    assert answers(store) == answers(make_store([d for d in never if d.facts.id != "doc-5"]))
    opt_out(store, "doc-0", now=now)
    assert store.catalog.shared_epoch.value() == 2 * store.epoch == 2 * store.catalog.epoch()


def test_with_an_even_number_readers_do_not_look(make_store, documents, answers, behind_its_back):
    """The control: what makes the readers above look is the odd number."""
    store = make_store(documents)
    before = answers(store)
    behind_its_back(store, "doc-5")
    assert answers(store) == before


def test_the_dead_writer_s_opt_out_has_its_receipt(make_store, documents, now):
    store = make_store(documents)
    die_after_committing(store, "doc-3")
    with store.catalog.read() as connection:
        assert connection.execute(select(tables.optouts.c.document)).scalars().all() == ["doc-3"]
    assert opt_out(store, "doc-3", now=now).accepted_at != now.isoformat(), "it is the receipt of then"


def test_a_change_that_is_taken_back_moves_nothing(make_store, documents, answers):
    store = make_store(documents)
    before, number = answers(store), store.catalog.shared_epoch.value()
    with pytest.raises(RuntimeError, match="changed my mind"), store.catalog.change() as connection:
        connection.execute(update(tables.documents).values(state="removed", removed_epoch=store.epoch + 1))
        assert store.catalog.shared_epoch.value() == number + 1
        raise RuntimeError("changed my mind")
    assert (answers(store), store.catalog.shared_epoch.value()) == (before, number)


def test_a_search_that_a_removal_overtakes_is_done_again(make_store, documents, answers, queries, monkeypatch, now):
    store = make_store(documents)
    other, view = Datastore.open(store.path), store._current().segments[0].keys
    search, n_searches = view.search, 0

    def overtaken(*arguments):
        nonlocal n_searches
        n_searches += 1
        found = search(*arguments)
        if n_searches == 1:
            opt_out(other, "doc-3", now=now, patience=0)  # it is this very search that it would wait for
        return found

    monkeypatch.setattr(view, "search", overtaken)
    found = store.search(queries, 64, 4)
    assert n_searches == 2
    places = store.locate(found.entries[found.entries >= 0].tolist(), found.epoch)
    assert "doc-3" not in {place.document for place in places}


def test_the_number_is_shared_by_all_who_have_it_open(tmp_path):
    Epoch.create(tmp_path)
    one, other = Epoch(tmp_path), Epoch(tmp_path)
    with one.change(lambda: 7):
        assert (one.value(), other.value()) == (1, 1)
    assert (one.value(), other.value()) == (14, 14)
    with (tmp_path / "epoch").open("rb") as file:
        data = mmap.mmap(file.fileno(), 16, prot=mmap.PROT_READ)
    assert bytes(data) == b"siloepo1" + struct.pack("<Q", 14)


@pytest.mark.parametrize("data", [None, b"", b"siloepo1", b"siloepo2" + bytes(8), bytes(17)], ids=str)
def test_what_is_no_counter_is_refused(tmp_path, data):
    if data is not None:
        (tmp_path / "epoch").write_bytes(data)
    with pytest.raises(CorruptDatastore, match="epoch"):
        Epoch(tmp_path)
