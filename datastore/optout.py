"""Opting a document out: in force, durably, for every process, before the receipt is returned.

One transaction takes the document out of service, bars its text from coming back (its fingerprints stay, see
``fingerprints``), appends a leaf to the public log, and stores the receipt; then the receipt goes to the journal, a
second file. When the transaction commits (WAL, ``synchronous=FULL``) the removal survives a power loss, and the shared
epoch sends every reader back to the catalog before its next search is answered. A receipt is returned once both
records have it and no reader works any longer with what it read before (``readers``); asking again returns the same.
The time that it takes grows with the document, and with the logarithm of the store and of the log.
"""

import json
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from datastore import catalog_rows, log_rows, tables
from datastore.errors import UnknownDocument
from datastore.readers import PATIENCE
from datastore.receipts import Receipt, receipt_from_json, sign_receipt
from datastore.records import is_text
from datastore.redaction import Ranges
from datastore.signing import fresh_salt
from datastore.store import Datastore
from datastore.suppression import Marks, packed, suppress


def opt_out(store: Datastore, document: str, *, now: datetime, patience: float = PATIENCE) -> Receipt:
    """Take ``document`` out of ``store`` and return the signed receipt, once no reader works with what was before.

    ``patience`` is the seconds after which readers that still do are fenced (``readers``).

    Raises:
        UnknownDocument: no document of that id was ever in the store.
        CorruptDatastore: the signing key is not the one that the manifest names; no one could check the receipt.
    """
    receipt = _accept(store, document, now)
    store.readers.wait(patience)
    return receipt


def _accept(store: Datastore, document: str, now: datetime) -> Receipt:
    """Put the opt-out in force and on record."""
    if not is_text(document):
        raise _unknown(document)
    if earlier := given_receipt(store, document):
        if is_behind(store):
            recover(store)
        return earlier
    text = store.stored_text(document)
    marks = [] if text is None else [Marks.of(text)]
    documents = tables.documents
    with store.catalog.change() as connection:
        row = connection.execute(select(documents).where(documents.c.id == document)).mappings().first()
        if row is None:
            raise _unknown(document)
        if earlier := receipt_in(connection, document):
            return earlier
        epoch = catalog_rows.epoch_of(connection) + 1
        facts = {
            "store": store.id,
            "document": document,
            "digest": row["digest"],
            "n_entries": row["n_entries"],
            "accepted_at": now.isoformat(),
            "epoch": epoch,
        }
        # Asked for here, where no rotation can come in between: a key signs no log that is later than its time.
        receipt = sign_receipt(facts, fresh_salt(), store.signing_key(), *log_rows.log_edge(connection))
        catalog_rows.record_opt_out(connection, receipt, packed(marks))
        for each in marks:
            suppress(connection, each)
    return receipt


@dataclass(frozen=True)
class Recovered:
    """What a recovery wrote."""

    n_from_journal: int
    """Opt-outs that the catalog lacked."""
    n_from_catalog: int
    """Opt-outs that the journal lacked."""


def recover(store: Datastore) -> Recovered:
    """Write to catalog and journal what only the other has; nothing where they agree.

    Raises CorruptDatastore where both together are no whole log, and OSError where the disk is full or read-only.
    """
    if not is_behind(store):
        return Recovered(0, 0)
    n_given = len(store.catalog.journal.commitments)
    n_taken = _n_lost(store)
    with store.catalog.change():
        pass
    return Recovered(n_taken, len(store.catalog.journal.commitments) - n_given)


def is_behind(store: Datastore) -> bool:
    """Whether catalog or journal lacks an opt-out that the other has."""
    journal = store.catalog.journal
    journal.refresh()
    with store.catalog.read() as connection:
        n_leaves = log_rows.n_leaves(connection)
    return _n_lost(store) > 0 or len(log_rows.missing_from(journal, n_leaves)) > 0


def _n_lost(store: Datastore) -> int:
    """How many of the opt-outs that the catalog lacked at opening are still to be written to it."""
    if not store.catalog.lost:
        return 0
    with store.catalog.read() as connection:
        found = connection.exec_driver_sql("SELECT count(*) FROM main.log").scalar_one()
    return sum(receipt.leaf_index >= found for receipt in store.catalog.lost)


def given_receipt(store: Datastore, document: str, sentences: Ranges = ()) -> Receipt | None:
    """The receipt for ``document``, or for just those sentences of it, if they were opted out before."""
    with store.catalog.read() as connection:
        return receipt_in(connection, document, sentences)


def receipt_in(connection: Connection, document: str, sentences: Ranges = ()) -> Receipt | None:
    """As ``given_receipt``, as ``connection`` sees it."""
    c = tables.optouts.c
    query = select(c.receipt).where(c.document == document, c.sentences == catalog_rows.sentences_key(sentences))
    found = connection.execute(query).scalar_one_or_none()
    return None if found is None else receipt_from_json(json.loads(found))


def _unknown(document: str) -> UnknownDocument:
    return UnknownDocument(
        f"no document {document!r} was ever in this store. `silo datastore info --documents` lists them."
    )
