"""Taking passages out of a document that stays: in force, durably, for every process, before the receipt is returned.

For copies of an owner's text inside other documents. The same transaction, journal and epoch as ``optout.opt_out``
has, and a receipt of the same kind, which names the sentences; its commitment, the leaf in the public log, covers them
too. What goes and what stays is said in ``redaction``, with the limit: later keys of the document were computed with
the passage in context. Opting the whole document out has no such limit.
"""

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import select

from datastore import catalog_rows, log_rows, tables
from datastore.errors import UnknownDocument
from datastore.optout import given_receipt, is_behind, receipt_in, recover
from datastore.readers import PATIENCE
from datastore.receipts import Receipt, sign_receipt
from datastore.redaction import Ranges, merged, normalized
from datastore.signing import fresh_salt
from datastore.store import Datastore
from datastore.suppression import Marks, packed, suppress
from datastore.tables import ERASED, REMOVED


def remove_passages(
    store: Datastore,
    document: str,
    sentences: Iterable[tuple[int, int]],
    *,
    now: datetime,
    patience: float = PATIENCE,
) -> Receipt:
    """Take ``sentences``, half-open ranges of their indices, out of ``document``; returns the signed receipt.

    Sentences keep their numbers. What was out before may be named again: the receipt counts the entries that went
    with it alone, and the same ranges have the same receipt. The text of each range is barred from coming back, alone
    or inside another document. ``patience`` is as in ``optout.opt_out``.

    Raises:
        UnknownDocument: no document of that id was ever in the store, or none of it is left to take out.
        BadArrays: a range is empty or the document has no such sentences.
        CorruptDatastore: the signing key is not the one that the manifest names.
    """
    receipt = _accept(store, document, normalized(sentences, store.document(document).n_sentences), now)
    store.readers.wait(patience)
    return receipt


def _accept(store: Datastore, document: str, ranges: Ranges, now: datetime) -> Receipt:
    """Put the removal in force and on record."""
    if earlier := given_receipt(store, document, ranges):
        if is_behind(store):
            recover(store)
        return earlier
    marks = [Marks.of(text) for text in store.stored_sentences(document, ranges)]
    with store.catalog.change() as connection:
        query = select(tables.documents).where(tables.documents.c.id == document)
        row = connection.execute(query).mappings().one()
        if earlier := receipt_in(connection, document, ranges):
            return earlier
        if row["state"] in (REMOVED, ERASED):
            raise UnknownDocument(f"document {document!r} was opted out as a whole; nothing of it is served")
        pending = catalog_rows.removed_sentences(connection, document, pending=True)
        facts = {
            "store": store.id,
            "document": document,
            "digest": row["digest"],
            "sentences": ranges,
            "n_entries": _n_going(store, row["segment"], row["ordinal"], pending, ranges),
            "accepted_at": now.isoformat(),
            "epoch": catalog_rows.epoch_of(connection) + 1,
        }
        # Asked for here, where no rotation can come in between: a key signs no log that is later than its time.
        receipt = sign_receipt(facts, fresh_salt(), store.signing_key(), *log_rows.log_edge(connection))
        catalog_rows.record_opt_out(connection, receipt, packed(marks))
        for mark in marks:
            suppress(connection, mark)
    return receipt


def _n_going(store: Datastore, segment: str, ordinal: int, before: Ranges, ranges: Ranges) -> int:
    """Entries that are served now and will not be without ``ranges``."""
    held = store.segment(segment)
    after = held.redacted(ordinal, merged([*before, *ranges]))
    return held.redacted(ordinal, before).n_entries - after.n_entries
