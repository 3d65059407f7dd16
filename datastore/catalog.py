"""The catalog: which documents, segments and opt-outs a store has, and its epoch.

SQLite, in write-ahead mode with ``synchronous=FULL`` (an acknowledged commit survives a power loss)
and ``secure_delete=ON`` (no deleted text in free pages). Knows names and numbers, no vectors. The catalog is
the one source of truth: a segment that it does not name does not exist, and a document is live if it says so.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    RowMapping,
    String,
    Table,
    create_engine,
    event,
    select,
    update,
)
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import ConnectionPoolEntry

from datastore.epoch import Epoch
from datastore.errors import CorruptDatastore
from datastore.records import DocumentFacts

FILE_NAME = "catalog.sqlite"
LIVE, REMOVED, ERASED = "live", "removed", "erased"

_schema = MetaData()

state = Table(
    "state",
    _schema,
    Column("id", Integer, primary_key=True),
    Column("epoch", Integer, nullable=False),
    Column("next_segment", Integer, nullable=False),
)

segments = Table(
    "segments",
    _schema,
    Column("name", String, primary_key=True),
    Column("number", Integer, nullable=False, unique=True),
    Column("sha256", String, nullable=False),
    Column("n_positions", Integer, nullable=False),
)

documents = Table(
    "documents",
    _schema,
    Column("number", Integer, primary_key=True),
    Column("id", String, nullable=False, unique=True),
    Column("digest", String, nullable=False, index=True),
    *(
        Column(name, String, nullable=False)
        for name in ("license", "risk", "source", "title", "owner", "url", "metadata")
    ),
    Column("state", String, nullable=False, index=True),
    Column("removed_epoch", Integer, nullable=True),
    Column("segment", String, nullable=True, index=True),
    Column("ordinal", Integer, nullable=False),
    Column("n_positions", Integer, nullable=False),
    Column("n_sentences", Integer, nullable=False),
)

optouts = Table(
    "optouts",
    _schema,
    Column("number", Integer, primary_key=True),
    Column("document", String, nullable=False, unique=True),
    Column("digest", String, nullable=False, index=True),
    Column("receipt", String, nullable=False),
)

suppressions = Table(
    "suppressions",
    _schema,
    Column("number", Integer, primary_key=True),
    Column("digest", String, nullable=False, index=True),
    Column("n_fingerprints", Integer, nullable=False),
)

suppressed_fingerprints = Table(
    "suppressed_fingerprints",
    _schema,
    Column("fingerprint", BigInteger, primary_key=True),
    Column("suppression", Integer, primary_key=True),
    sqlite_with_rowid=False,
)


class Catalog:
    """The catalog in ``folder``. Read with ``read``; the only way to change it is ``change``."""

    def __init__(self, folder: Path) -> None:
        path = folder / FILE_NAME
        if not path.is_file():
            raise CorruptDatastore(f"{path} is missing. Restore the store from a snapshot.")
        self.shared_epoch = Epoch(folder)
        self._reader = _engine(path, "BEGIN")
        self._writer = _engine(path, "BEGIN IMMEDIATE")
        self._is_complete = False

    @staticmethod
    def create(folder: Path) -> None:
        """Make the empty catalog of a new store."""
        Epoch.create(folder)
        engine = _engine(folder / FILE_NAME, "BEGIN IMMEDIATE")
        with engine.begin() as connection:
            _schema.create_all(connection)
            connection.execute(state.insert().values(id=1, epoch=0, next_segment=1))
        engine.dispose()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent view of the catalog. Raises CorruptDatastore where SQLite cannot read it."""
        try:
            with self._reader.begin() as connection:
                yield connection
        except DatabaseError as error:
            raise CorruptDatastore(
                f"the catalog cannot be read: {error.orig}. Restore the store from a snapshot."
            ) from error

    @contextmanager
    def change(self) -> Iterator[Connection]:
        """One transaction that moves the epoch on; in force, for every process, when this returns.

        An exception inside takes everything back, the epoch too.
        """
        with self.shared_epoch.change(self.epoch), self._writer.begin() as connection:
            yield connection
            connection.execute(update(state).values(epoch=state.c.epoch + 1))

    def complete(self) -> None:
        """Make the tables that the catalog of an earlier version lacks."""
        if not self._is_complete:
            with self._writer.begin() as connection:
                _schema.create_all(connection)
            self._is_complete = True

    def epoch(self) -> int:
        """How many changes were committed since the store was made."""
        with self.read() as connection:
            return epoch_of(connection)

    def checkpoint(self) -> bool:
        """Move the write-ahead log into the catalog and cut it to nothing; False while a reader holds it."""
        connection = self._writer.raw_connection()
        try:
            busy: int = connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            return busy == 0
        finally:
            connection.close()

    def close(self) -> None:
        """Let go of every connection."""
        self._reader.dispose()
        self._writer.dispose()


def epoch_of(connection: Connection) -> int:
    """The epoch that ``connection`` sees."""
    return int(connection.execute(select(state.c.epoch)).scalar_one())


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


def _engine(path: Path, begin: str) -> Engine:
    """An engine whose transactions start with ``begin``; the driver's own habit of starting them late is off."""
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": 30})

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _entry: ConnectionPoolEntry) -> None:
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON", "busy_timeout=30000"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine
