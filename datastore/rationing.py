"""How much may be hidden by those who have shown no more than a document's text.

Works on an open transaction. Counts requesters under a hash that is salted afresh each day (``request_tables``).
"""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, delete, func, select

from datastore import hiding
from datastore.errors import QuotaExceeded
from datastore.request_tables import hides


@dataclass(frozen=True)
class Quota:
    """How much may be hidden on possession of the text alone."""

    per_requester_and_day: int = 10
    """Attempts, right and wrong."""
    share: float = 0.01
    """Of the store's entries, from 0 to 1; one document may always be hidden."""

    def __post_init__(self) -> None:
        if self.per_requester_and_day < 0 or not 0 <= self.share <= 1:
            raise ValueError(f"a quota is a count of at least 0 and a share from 0 to 1; got {self}")


STANDARD = Quota()


def spend(connection: Connection, requester: str, quota: Quota, now: datetime) -> None:
    """Count one attempt of ``requester``, right or wrong. Raises QuotaExceeded where they are used up, or unnamed."""
    if not requester:
        raise QuotaExceeded("hiding on possession of the text is rationed by requester; name one")
    day = now.astimezone(UTC).date().isoformat()
    salt = connection.execute(select(hides.c.salt).where(hides.c.requester == "", hides.c.day == day)).scalar()
    if salt is None:
        salt = secrets.token_hex(32)
        connection.execute(delete(hides))
        connection.execute(hides.insert().values(requester="", n=0, day=day, salt=salt))
    name = hashlib.sha256(f"{salt}{requester}".encode("utf-8", "surrogatepass")).hexdigest()
    who = hides.c.requester == name
    n = connection.execute(select(func.coalesce(func.max(hides.c.n), 0)).where(who)).scalar_one()
    if n >= quota.per_requester_and_day:
        raise QuotaExceeded(
            f"{n} documents were asked to be hidden today by this requester; {quota.per_requester_and_day} may be. "
            "Prove ownership by key or host, or come back tomorrow."
        )
    connection.execute(delete(hides).where(who))
    connection.execute(hides.insert().values(requester=name, n=n + 1, day=day, salt=""))


def check_share(connection: Connection, document: str, quota: Quota) -> None:
    """Raise QuotaExceeded where hiding ``document`` too would hide more of the store than ``quota`` lets."""
    share = hiding.hidden_share(connection, document)
    if share > quota.share and hiding.is_any_hidden(connection):
        raise QuotaExceeded(
            f"{share:.1%} of the store would be hidden while it is reviewed; {quota.share:.1%} may be. "
            "Prove ownership by key or host, or come back when reviews are done."
        )
