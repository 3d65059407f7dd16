"""What rows of the catalog say: facts of documents, opt-outs, and the sentences that are out.

Works on open connections; commits nothing.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, func, select, update

from datastore.receipts import Receipt
from datastore.records import DocumentFacts, StoredDocument
from datastore.redaction import Ranges, merged
from datastore.tables import HIDDEN, LIVE, REMOVED, documents, log, optouts, removals, state


def epoch_of(connection: Connection) -> int:
    """The epoch that ``connection`` sees."""
    return int(connection.execute(select(state.c.epoch)).scalar_one())


def record_opt_out(connection: Connection, receipt: Receipt, bars: str) -> None:
    """Take the document of ``receipt``, or its sentences, out of service, and append its leaf to the log.

    The id and digest of a whole document are barred by that; texts are barred by ``suppression``, and ``bars`` is what
    the journal is to repeat of it.
    """
    epoch = epoch_of(connection) + 1
    is_same = documents.c.id == receipt.document
    if receipt.sentences:
        common = {"document": receipt.document, "leaf": receipt.leaf_index, "removed_epoch": epoch, "is_erased": False}
        rows = [common | {"first": first, "last": last} for first, last in receipt.sentences]
        connection.execute(removals.insert(), rows)
        left = documents.c.n_entries - receipt.n_entries
        connection.execute(update(documents).where(is_same).values(n_entries=left))
    else:
        is_live = is_same & documents.c.state.in_((LIVE, HIDDEN))
        connection.execute(update(documents).where(is_live).values(state=REMOVED, removed_epoch=epoch))
    connection.execute(optouts.insert().values(**opt_out_columns(receipt), bars=bars))
    connection.execute(log.insert().values(leaf=receipt.leaf_index, commitment=receipt.commitment))


def opt_out_columns(receipt: Receipt) -> dict[str, Any]:
    """A receipt as values of a row of ``optouts``, without ``bars``."""
    text = json.dumps(receipt.to_json(), sort_keys=True)
    return {
        "number": receipt.leaf_index,
        "document": receipt.document,
        "sentences": sentences_key(receipt.sentences),
        "digest": receipt.digest,
        "receipt": text,
    }


def sentences_key(sentences: Sequence[tuple[int, int]]) -> str:
    """What the ``sentences`` of an opt-out are in ``optouts``."""
    return json.dumps(sentences) if sentences else ""


def removed_sentences(connection: Connection, document: str, *, pending: bool = False) -> Ranges:
    """The sentences that were taken out of ``document``; those alone whose bytes are still there if ``pending``."""
    query = select(removals.c.first, removals.c.last).where(removals.c.document == document)
    rows = connection.execute(query.where(~removals.c.is_erased) if pending else query)
    return merged((row.first, row.last) for row in rows)


def changed_at(connection: Connection, *, erased: bool) -> dict[str, int]:
    """The size of the log once each document had lost its last sentences, of those that lost any.

    With ``erased``, of those sentences alone whose bytes are gone.
    """
    query = select(removals.c.document, func.max(removals.c.leaf) + 1).group_by(removals.c.document)
    rows = connection.execute(query.where(removals.c.is_erased) if erased else query)
    return {row[0]: row[1] for row in rows}


def facts_of(row: RowMapping) -> DocumentFacts:
    """A row of ``documents`` as facts."""
    fields = {name: row[name] for name in ("id", "digest", "license", "risk", "source", "title", "owner", "url")}
    return DocumentFacts(**fields, metadata=json.loads(row["metadata"]))


def columns_of(facts: DocumentFacts) -> Mapping[str, Any]:
    """Facts as values of a row of ``documents``."""
    fields = {
        name: getattr(facts, name) for name in ("id", "digest", "license", "risk", "source", "title", "owner", "url")
    }
    return fields | {"metadata": json.dumps(dict(facts.metadata), ensure_ascii=False, sort_keys=True)}


def stored_of(row: RowMapping) -> StoredDocument:
    """A row of ``documents`` as what a store says of it: one that is out of service has no entries."""
    n_entries = row["n_entries"] if row["state"] == LIVE else 0
    return StoredDocument(facts_of(row), row["state"], n_entries, row["n_sentences"])


def place_of(connection: Connection, document: str) -> Any:
    """State, segment and ordinal of ``document``; None where the catalog does not know it."""
    query = select(documents.c.state, documents.c.segment, documents.c.ordinal)
    return connection.execute(query.where(documents.c.id == document)).first()


def removed_since(connection: Connection, epoch: int) -> list[tuple[str, int]]:
    """(segment, ordinal) of the documents that went out of service after ``epoch`` and whose bytes are still there."""
    query = select(documents.c.segment, documents.c.ordinal).where(
        documents.c.state.in_((REMOVED, HIDDEN)), documents.c.removed_epoch > epoch
    )
    return [(row.segment, row.ordinal) for row in connection.execute(query)]


def holes_since(connection: Connection, epoch: int) -> list[tuple[str, int, tuple[int, int]]]:
    """(segment, ordinal, range of sentences) that were removed after ``epoch`` and whose bytes are still there."""
    r, d = removals.c, documents.c
    query = select(d.segment, d.ordinal, r.first, r.last).select_from(removals).join(documents, d.id == r.document)
    wanted = query.where(~r.is_erased, r.removed_epoch > epoch, d.segment.is_not(None)).order_by(r.number)
    return [(row.segment, row.ordinal, (row.first, row.last)) for row in connection.execute(wanted)]
