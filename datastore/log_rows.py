"""The public log as the catalog has it: its leaves, how many there are, and what the next one is appended to.

Works on open connections; ``journal`` is the log's second record, and ``public_log`` what anyone may see of it.
"""

import json

from sqlalchemy import Connection, func, select

from datastore.errors import CorruptDatastore, VerificationFailed
from datastore.journal import Journal
from datastore.receipts import edge_of, receipt_from_json
from datastore.tables import log, optouts


def n_leaves(connection: Connection) -> int:
    """How many opt-outs the log has; that it has no gap is checked when a store is opened."""
    return int(connection.execute(select(func.coalesce(func.max(log.c.leaf) + 1, 0))).scalar_one())


def missing_from(journal: Journal, n_leaves: int) -> list[int]:
    """Which of the first ``n_leaves`` have no line in ``journal``; below its high-water mark it is not asked."""
    return [leaf for leaf in range(journal.n_whole, n_leaves) if not journal.has(leaf)]


def log_edge(connection: Connection) -> tuple[list[bytes], int]:
    """The right edge of the log and its size, both from the newest receipt, whatever the size.

    Raises CorruptDatastore where that receipt is not of the log's last leaf.
    """
    size = n_leaves(connection)
    if size == 0:
        return [], 0
    found = connection.execute(select(optouts.c.receipt).where(optouts.c.number == size - 1)).scalar_one_or_none()
    try:
        if found is None:
            raise VerificationFailed(f"there is no receipt of leaf {size - 1}")
        return edge_of(receipt_from_json(json.loads(found))), size
    except (VerificationFailed, ValueError) as error:
        raise CorruptDatastore(
            f"the newest receipt in the catalog is not that of the log's last leaf: {error}. "
            "Restore the newest copies of catalog and journal."
        ) from None


def commitments(connection: Connection, since: int = 0) -> list[str]:
    """The leaves of the public log from place ``since`` on, in order, each 64 hex digits."""
    query = select(log.c.commitment).where(log.c.leaf >= since).order_by(log.c.leaf)
    return list(connection.execute(query).scalars())


def commitment_at(connection: Connection, leaf: int) -> str:
    """The leaf at a place of the log that there is."""
    return str(connection.execute(select(log.c.commitment).where(log.c.leaf == leaf)).scalar_one())


def place_of(connection: Connection, commitment: str) -> int | None:
    """Where in the log a leaf lies; None where it has none such."""
    place: int | None = connection.execute(select(log.c.leaf).where(log.c.commitment == commitment)).scalar()
    return place
