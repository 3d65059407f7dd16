"""Pages of a store's documents, in the order of ingestion. Reads the catalog; shows no text."""

from sqlalchemy import select

from datastore import tables
from datastore.errors import UnknownDocument
from datastore.records import StoredDocument, is_text
from datastore.store import Datastore

MAX_PAGE = 1000


def page(store: Datastore, after: str | None, limit: int, state: str | None = None) -> list[StoredDocument]:
    """At most ``limit`` documents that came after the one called ``after``, or the first ones; of one ``state`` or any.

    Raises UnknownDocument where ``after`` was never in this store.
    """
    d = tables.documents.c
    query = select(d.number, d.id).order_by(d.number).limit(max(0, min(limit, MAX_PAGE)))
    with store.catalog.read() as connection:
        if after is not None:
            number = is_text(after) and connection.execute(select(d.number).where(d.id == after)).scalar()
            if number is None or number is False:
                raise UnknownDocument(f"no document {after!r} was ever in this store; a page begins after one that was")
            query = query.where(d.number > number)
        if state is not None:
            query = query.where(d.state == state)
        names = [row.id for row in connection.execute(query)]
    return [store.document(name) for name in names]
