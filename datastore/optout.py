"""Opting a document out: in force, durably, for every process, before the receipt is returned.

One transaction takes the document out of service, bars its text from coming back (its fingerprints stay, see
``fingerprints``), and stores the receipt. When it commits (WAL, ``synchronous=FULL``) the removal survives a power
loss, and the shared epoch sends every reader back to the catalog before its next search is answered. Asking again
returns the same receipt.
"""

import json
from datetime import datetime

from sqlalchemy import Connection, select, update

from datastore import catalog
from datastore.catalog import LIVE, REMOVED
from datastore.errors import CorruptDatastore, UnknownDocument
from datastore.receipts import Receipt, receipt_from_json, sign_receipt
from datastore.records import is_text
from datastore.signing import FILE_NAME as KEY_FILE
from datastore.signing import fresh_salt, load_key, public_hex
from datastore.store import Datastore
from datastore.suppression import Marks, suppress


def opt_out(store: Datastore, document: str, *, now: datetime) -> Receipt:
    """Take ``document`` out of ``store`` and return the signed receipt.

    Raises:
        UnknownDocument: no document of that id was ever in the store.
        CorruptDatastore: the signing key is not the one that the manifest names; no one could check the receipt.
    """
    if not is_text(document):
        raise _unknown(document)
    if earlier := given_receipt(store, document):
        return earlier
    key = load_key(store.path)
    if public_hex(key) != store.manifest.public_key:
        raise CorruptDatastore(
            f"{store.path / KEY_FILE} is not the key that the manifest names. Put the store's own key back."
        )
    store.catalog.complete()
    text = store.stored_text(document)
    marks = None if text is None else Marks.of(text)
    documents = catalog.documents
    with store.catalog.change() as connection:
        row = connection.execute(select(documents).where(documents.c.id == document)).mappings().first()
        if row is None:
            raise _unknown(document)
        if earlier := _receipt(connection, document):
            return earlier
        epoch = catalog.epoch_of(connection) + 1
        facts = {
            "store": store.id,
            "document": document,
            "digest": row["digest"],
            "n_entries": row["n_positions"] - 1,
            "accepted_at": now.isoformat(),
            "epoch": epoch,
        }
        receipt = sign_receipt(facts, fresh_salt(), key)
        # A text that was barred while it was being added came in removed, and may be erased by now: so it stays.
        is_live = (documents.c.id == document) & (documents.c.state == LIVE)
        connection.execute(update(documents).where(is_live).values(state=REMOVED, removed_epoch=epoch))
        connection.execute(
            catalog.optouts.insert().values(
                document=document, digest=row["digest"], receipt=json.dumps(receipt.to_json(), sort_keys=True)
            )
        )
        if marks is not None:
            suppress(connection, marks)
    return receipt


def given_receipt(store: Datastore, document: str) -> Receipt | None:
    """The receipt for ``document``, if it was opted out before."""
    with store.catalog.read() as connection:
        return _receipt(connection, document)


def _receipt(connection: Connection, document: str) -> Receipt | None:
    query = select(catalog.optouts.c.receipt).where(catalog.optouts.c.document == document)
    found = connection.execute(query).scalar_one_or_none()
    return None if found is None else receipt_from_json(json.loads(found))


def _unknown(document: str) -> UnknownDocument:
    return UnknownDocument(
        f"no document {document!r} was ever in this store. `silo datastore info --documents` lists them."
    )
