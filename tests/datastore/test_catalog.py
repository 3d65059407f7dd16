"""The catalog survives a loss of power and keeps nothing that was deleted."""

import pytest
from sqlalchemy import update

from datastore import tables

PRAGMAS = {"journal_mode": "wal", "synchronous": 2, "secure_delete": 1}


@pytest.mark.parametrize("which", ["_reader", "_writer"])
def test_every_connection_is_durable_and_overwrites_what_it_deletes(make_store, which):
    with getattr(make_store().catalog, which).connect() as connection:
        found = {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in PRAGMAS}
    assert found == PRAGMAS


def test_what_was_overwritten_is_in_no_page_once_the_log_is_cut(make_store, documents):
    store = make_store(documents)
    title = "A title of some length, so that it takes its row to another page. " * 80
    for text in (title, ""):
        with store.catalog.change() as connection:
            connection.execute(update(tables.documents).where(tables.documents.c.id == "doc-4").values(title=text))
    files = [store.path / name for name in ("catalog.sqlite", "catalog.sqlite-wal")]
    assert any(title[:60].encode() in file.read_bytes() for file in files), "the control"
    assert store.catalog.checkpoint()
    assert not any(title[:60].encode() in file.read_bytes() for file in files)
