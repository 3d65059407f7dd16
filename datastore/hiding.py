"""Hiding a document for as long as a request for it is reviewed, and letting it come back.

A hidden document is out of service like a removed one: readers mask its entries from the same epoch on, and answer
as a store without it would. Unlike a removed one it may come back, so compaction keeps its bytes, its text is not
barred, and no receipt is given. Works on the open transaction of a change, which moves the epoch.
"""

from sqlalchemy import Connection, func, select, update

from datastore.catalog_rows import epoch_of
from datastore.tables import HIDDEN, LIVE, documents


def hide(connection: Connection, document: str) -> None:
    """Take ``document`` out of service for now; nothing where it is not live."""
    here = (documents.c.id == document) & (documents.c.state == LIVE)
    connection.execute(update(documents).where(here).values(state=HIDDEN, removed_epoch=epoch_of(connection) + 1))


def release(connection: Connection, document: str) -> None:
    """Put ``document`` back into service as it was; nothing where it is not hidden, above all if it was opted out."""
    here = (documents.c.id == document) & (documents.c.state == HIDDEN)
    back = {"state": LIVE, "removed_epoch": None, "released_epoch": epoch_of(connection) + 1}
    connection.execute(update(documents).where(here).values(**back))


def is_any_released_since(connection: Connection, epoch: int) -> bool:
    """Whether a document came back after ``epoch``: masks that were made by then lack its entries."""
    query = select(documents.c.number).where(documents.c.released_epoch > epoch).limit(1)
    return connection.execute(query).first() is not None


def hidden_share(connection: Connection, document: str) -> float:
    """Which share of the entries that are live or hidden would be hidden with ``document`` among them."""
    d = documents.c
    positions = func.coalesce(func.sum(d.n_positions), 0)
    hidden = connection.execute(select(positions).where((d.state == HIDDEN) | (d.id == document))).scalar_one()
    served = connection.execute(select(positions).where(d.state.in_((LIVE, HIDDEN)))).scalar_one()
    return float(hidden / max(1, served))


def is_any_hidden(connection: Connection) -> bool:
    """Whether a document is hidden now."""
    return (
        connection.execute(select(documents.c.number).where(documents.c.state == HIDDEN).limit(1)).first() is not None
    )
