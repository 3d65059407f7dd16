"""Connections to the catalog's SQLite file: durable ones that write, and ones that read what a disk allows.

Knows files, pragmas and what SQLite says of a disk; no table.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

from datastore.errors import CannotWrite

Prepare = Callable[[Any], None]
"""What is done with each connection of the driver's before it is used."""


def engine(path: Path, begin: str, prepare: Prepare = lambda _connection: None) -> Engine:
    """An engine whose transactions start with ``begin``; the driver's own habit of starting them late is off."""
    made = create_engine(f"sqlite:///{path}", connect_args={"timeout": 30})

    @event.listens_for(made, "connect")
    def _prepare(connection: Any, _entry: ConnectionPoolEntry) -> None:
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON", "busy_timeout=30000"):
            connection.execute(f"PRAGMA {pragma}")
        prepare(connection)

    _begin_with(made, begin)
    return made


def reading(path: Path, prepare: Prepare) -> Engine:
    """As ``engine``, on a disk that may only be read here and that others may write to meanwhile.

    SQLite cannot read a write-ahead log that it may not set up, unless it is told that nobody writes. Nobody does who
    has left no such log; so each transaction looks, and the epoch says, as ever, whether somebody came in between.
    """
    log_file = path.with_name(f"{path.name}-wal")

    def connect() -> sqlite3.Connection:
        mode = "mode=ro" if log_file.exists() else "mode=ro&immutable=1"
        connection = sqlite3.connect(f"file:{quote(str(path))}?{mode}", uri=True, timeout=30)
        connection.isolation_level = None
        prepare(connection)
        return connection

    made = create_engine("sqlite://", creator=connect, poolclass=NullPool)
    _begin_with(made, "BEGIN")
    return made


def _begin_with(engine: Engine, begin: str) -> None:
    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)


@contextmanager
def explained() -> Iterator[None]:
    """What SQLite says of a disk that is full, read-only or failing, as CannotWrite."""
    try:
        yield
    except (DatabaseError, sqlite3.Error) as error:
        cause = error.orig if isinstance(error, DatabaseError) else error
        name = getattr(cause, "sqlite_errorname", "")
        if not name.startswith(("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CANTOPEN")):
            raise
        raise CannotWrite(
            f"the catalog could not be written ({cause}), and nothing was promised. Free some space, or make the "
            "store's disk writable; then try again."
        ) from error
