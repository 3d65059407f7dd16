"""The catalog: which documents, segments and opt-outs a store has, and its epoch.

SQLite, in write-ahead mode with ``synchronous=FULL`` (an acknowledged commit survives a power loss)
and ``secure_delete=ON`` (no deleted text in free pages). Knows names and numbers, no vectors. The catalog is
the one source of truth: a segment that it does not name does not exist, and a document is live if it says so,
unless the journal knows better. A catalog that was restored from an older copy lacks the newest opt-outs: every
reader then sees the union of both, made in memory when the store is opened, and the next change, whatever it is,
begins by writing it. Every change ends by writing to the journal what only the catalog has.
"""

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Engine,
    Index,
    Integer,
    MetaData,
    RowMapping,
    String,
    Table,
    UniqueConstraint,
    create_engine,
    event,
    func,
    select,
    update,
)
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

from datastore.epoch import Epoch
from datastore.errors import CannotWrite, CorruptDatastore, DatastoreError, VerificationFailed
from datastore.files import is_read_only, sync_file
from datastore.journal import Journal, lost_leaves
from datastore.key_chain import KeyChain
from datastore.merkle import Tree
from datastore.receipts import Receipt, edge_of, receipt_from_json
from datastore.records import DocumentFacts
from datastore.redaction import Ranges, merged
from datastore.request_tables import schema as request_schema

FILE_NAME = "catalog.sqlite"
LIVE, HIDDEN, REMOVED, ERASED = "live", "hidden", "removed", "erased"
WIPED = dict.fromkeys(("license", "source", "title", "owner", "url"), "") | {"metadata": "{}"}
"""What is left of a document's facts once it is erased."""

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
    Column("state", String, nullable=False),
    Column("removed_epoch", Integer, nullable=True),
    Column("released_epoch", Integer, nullable=True, index=True),  # see ``hiding``
    Column("segment", String, nullable=True, index=True),
    Column("ordinal", Integer, nullable=False),
    Column("n_positions", Integer, nullable=False),
    Column("n_entries", Integer, nullable=False),
    Column("n_sentences", Integer, nullable=False),
    # What left since an epoch is found without a look at what left before.
    Index("documents_by_state", "state", "removed_epoch"),
)

removals = Table(
    "removals",
    _schema,
    Column("number", Integer, primary_key=True),
    Column("leaf", Integer, nullable=False, index=True),
    Column("document", String, nullable=False, index=True),
    Column("first", Integer, nullable=False),
    Column("last", Integer, nullable=False),
    Column("removed_epoch", Integer, nullable=False),
    Column("is_erased", Boolean, nullable=False),
)
"""Sentences that were taken out of documents, as half-open ranges."""

optouts = Table(
    "optouts",
    _schema,
    Column("number", Integer, primary_key=True),
    Column("document", String, nullable=False),
    Column("sentences", String, nullable=False),
    Column("digest", String, nullable=False, index=True),
    Column("receipt", String, nullable=False),
    Column("bars", String, nullable=False),
    UniqueConstraint("document", "sentences"),
)
"""``sentences`` is the empty string for a whole document, or the ranges that went, as JSON. ``bars`` is what the
journal repeats of ``suppressions`` (``suppression.packed``)."""

log = Table(
    "log",
    _schema,
    Column("leaf", Integer, primary_key=True),
    Column("commitment", String, nullable=False, unique=True),
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


_CONTRADICTION = f"""
SELECT id FROM documents WHERE (state = '{LIVE}') <> (removed_epoch IS NULL) OR removed_epoch < 1
UNION ALL SELECT segment FROM documents WHERE segment IS NOT NULL GROUP BY segment
HAVING min(ordinal) <> 0 OR max(ordinal) <> count(*) - 1 OR count(DISTINCT ordinal) <> count(*)
"""


class Catalog:
    """The catalog in ``folder``. Read with ``read``; the only way to change it is ``change``.

    ``chain`` tells the store's keys as they are now, which signed what the journal and the log say.
    """

    def __init__(self, folder: Path, chain: Callable[[], KeyChain]) -> None:
        path = folder / FILE_NAME
        if not path.is_file():
            raise CorruptDatastore(f"{path} is missing. Restore the store from a snapshot.")
        self._log_path = folder / f"{FILE_NAME}-wal"
        self.shared_epoch = Epoch(folder)
        self._chain = chain
        self.bar: Callable[[Connection, Receipt, str], str] = lambda _connection, _receipt, bars: bars
        """Bars the text of an opt-out that only the journal had, by what it has of it, or while its bytes are still
        there; returns what barred it. Set by the store.
        """
        self.lost: list[Receipt] = []
        """The opt-outs that the catalog lacked when it was opened and that the journal has."""
        self._reader = _engine(path, "BEGIN", self.lost) if not is_read_only(folder) else _reading(path, self.lost)
        self._writer = _engine(path, "BEGIN IMMEDIATE")
        self._tree, self._tree_lock = Tree(), threading.Lock()
        # The journal is read before the catalog, which commits first: so what it alone has was lost.
        self.journal = Journal(folder)
        with self.read() as connection:
            self._check_pages(connection)
            lost = self._lost(connection)
        if lost:
            self._reader.dispose()
            self.lost.extend(lost)

    @staticmethod
    def create(folder: Path) -> None:
        """Make the empty catalog of a new store."""
        Epoch.create(folder)
        Journal.create(folder)
        engine = _engine(folder / FILE_NAME, "BEGIN IMMEDIATE")
        with engine.begin() as connection:
            _schema.create_all(connection)
            request_schema.create_all(connection)
            connection.execute(state.insert().values(id=1, epoch=0, next_segment=1))
        engine.dispose()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent view of the catalog. Raises CorruptDatastore where SQLite cannot read it."""
        try:
            with self._reader.begin() as connection:
                yield connection
        except (DatabaseError, UnicodeDecodeError) as error:  # the latter where SQLite's own message is damaged
            raise CorruptDatastore(
                f"the catalog cannot be read: {getattr(error, 'orig', error)}. Restore the store from a snapshot."
            ) from error

    @contextmanager
    def change(self) -> Iterator[Connection]:
        """One transaction that moves the epoch on; in force, for every process, when this returns.

        An exception inside takes everything back, the epoch too. The journal follows the commit and comes before
        the epoch is even again. OSError where it cannot be written: the change is in force all the same, and the
        next one writes it to the journal. CannotWrite where the catalog itself cannot: nothing was promised.
        """
        with self.shared_epoch.change(self.epoch):
            with _explained(), self._writer.begin() as connection:
                self._take_from_journal(connection)
                yield connection
                connection.execute(update(state).values(epoch=state.c.epoch + 1))
            self._give_to_journal()

    @contextmanager
    def note(self) -> Iterator[Connection]:
        """One durable transaction about what no answer depends on: the epoch stays, and readers keep what they know."""
        with _explained(), self._writer.begin() as connection:
            yield connection

    def epoch(self) -> int:
        """How many changes were committed since the store was made."""
        with self.read() as connection:
            return epoch_of(connection)

    def tree(self, connection: Connection) -> tuple[Tree, int]:
        """The Merkle tree of the log, and the size that it has for ``connection``.

        It is made when the store is opened, which checks all of it; from then on only new leaves are read. Not kept in
        the file, where a changed bit would have to be looked for anew.
        """
        size = n_leaves(connection)
        with self._tree_lock:
            if len(self._tree) < size:
                for leaf in commitments(connection, since=len(self._tree)):
                    self._tree.append(bytes.fromhex(leaf))
            return self._tree, size

    @staticmethod
    def _check_pages(connection: Connection) -> None:
        """Raise CorruptDatastore unless tables and indexes agree, and rows with each other; SQLite has no checksums.

        With a bit flipped in an index, a removed document is in no list of the removed ones; with one flipped in an
        ordinal, another document is masked in its place.
        """
        found = connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar_one()
        if found == "ok" and (row := connection.exec_driver_sql(_CONTRADICTION).first()) is not None:
            found = f"its rows contradict each other at {row[0]!r}"
        if found != "ok":
            raise CorruptDatastore(f"the catalog is damaged: {found}. Restore the store from a snapshot.")

    def _lost(self, connection: Connection) -> list[Receipt]:
        """What the journal has and the catalog lacks. Raises CorruptDatastore where the two are no whole log."""
        newest = connection.execute(select(optouts.c.receipt).order_by(optouts.c.number.desc()).limit(1)).scalar()
        try:
            latest = receipt_from_json(json.loads(newest)).head.to_json() if newest is not None else None
            leaves, tree = lost_leaves(self.journal, commitments(connection), latest, self._chain())
            with self._tree_lock:
                self._tree = tree
            return self.journal.receipts(leaves) if leaves else []
        except CorruptDatastore:
            raise
        except (DatastoreError, ValueError) as error:
            raise CorruptDatastore(
                f"a receipt in {self.journal.path} or in the catalog does not hold: {error}. "
                "Restore the newest copies of both."
            ) from None

    def _take_from_journal(self, connection: Connection) -> None:
        """Put in force what the journal has and the catalog lacks, at an epoch that no reader has seen."""
        self.journal.refresh()
        lost = self._lost(connection) if self.journal.n_leaves > n_leaves(connection) else []
        reached = max([self.shared_epoch.value() // 2, *(receipt.epoch for receipt in lost)])
        connection.execute(update(state).where(state.c.epoch < reached).values(epoch=reached))
        bars = self.journal.bars() if lost else {}
        for receipt in lost:
            record_opt_out(connection, receipt, self.bar(connection, receipt, bars.get(receipt.leaf_index, "")))

    def _give_to_journal(self) -> None:
        """Append what the catalog has and the journal lacks: the newest opt-out, and those of writers that died."""
        with self.read() as connection:
            missing = missing_from(self.journal, n_leaves(connection))
            if not missing:
                return
            rows = connection.execute(select(optouts).where(optouts.c.number >= missing[0]).order_by(optouts.c.number))
            wanted = set(missing)
            given = [(receipt_from_json(json.loads(row.receipt)), row.bars) for row in rows if row.number in wanted]
        self.journal.append(given)

    def checkpoint(self) -> bool:
        """Move the write-ahead log into the catalog and cut it to nothing; False while a reader holds it."""
        connection = self._writer.raw_connection()
        try:
            with _explained():
                busy: int = connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            if busy == 0 and self._log_path.exists():
                sync_file(self._log_path)  # SQLite cuts it and leaves it there: a loss of power would bring it back
            return busy == 0
        finally:
            connection.close()

    def close(self) -> None:
        """Let go of every connection."""
        self._reader.dispose()
        self._writer.dispose()


def tables() -> list[Table]:
    """Every table of a catalog, each after those that it refers to."""
    return [*_schema.sorted_tables, *request_schema.sorted_tables]


@contextmanager
def _explained() -> Iterator[None]:
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


def epoch_of(connection: Connection) -> int:
    """The epoch that ``connection`` sees."""
    return int(connection.execute(select(state.c.epoch)).scalar_one())


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
    connection.execute(optouts.insert().values(**_opt_out_columns(receipt), bars=bars))
    connection.execute(log.insert().values(leaf=receipt.leaf_index, commitment=receipt.commitment))


def _opt_out_columns(receipt: Receipt) -> dict[str, Any]:
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


def _engine(path: Path, begin: str, lost: Sequence[Receipt] = ()) -> Engine:
    """An engine whose transactions start with ``begin``; the driver's own habit of starting them late is off.

    Its connections see the opt-outs in ``lost`` as if they were in the catalog.
    """
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": 30})

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _entry: ConnectionPoolEntry) -> None:
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON", "busy_timeout=30000"):
            connection.execute(f"PRAGMA {pragma}")
        if lost:
            _see_union(connection, lost)

    _begin_with(engine, begin)
    return engine


def _reading(path: Path, lost: Sequence[Receipt]) -> Engine:
    """As ``_engine``, on a disk that may only be read here and that others may write to meanwhile.

    SQLite cannot read a write-ahead log that it may not set up, unless it is told that nobody writes. Nobody does who
    has left no such log; so each transaction looks, and the epoch says, as ever, whether somebody came in between.
    """
    log_file = path.with_name(f"{path.name}-wal")

    def connect() -> sqlite3.Connection:
        mode = "mode=ro" if log_file.exists() else "mode=ro&immutable=1"
        connection = sqlite3.connect(f"file:{quote(str(path))}?{mode}", uri=True, timeout=30)
        connection.isolation_level = None
        if lost:
            _see_union(connection, lost)
        return connection

    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool)
    _begin_with(engine, "BEGIN")
    return engine


def _begin_with(engine: Engine, begin: str) -> None:
    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)


def _see_union(connection: Any, lost: Sequence[Receipt]) -> None:
    """Lay views over the tables of one connection, in its memory: SQLite looks for a name there first.

    So every question that a reader asks is asked of catalog and journal together, and none can forget to.
    """
    connection.execute("PRAGMA temp_store=MEMORY")
    columns = "number, document, sentences, digest, receipt, bars"
    connection.execute(f"CREATE TEMP TABLE lost ({columns}, commitment, n_entries, PRIMARY KEY (number))")
    connection.executemany(
        "INSERT INTO lost VALUES (:number, :document, :sentences, :digest, :receipt, '', :commitment, :n_entries)",
        [_opt_out_columns(r) | {"commitment": r.commitment, "n_entries": r.n_entries} for r in lost],
    )
    connection.execute("CREATE TEMP TABLE lost_removals (leaf, document, first, last)")
    holes = [(r.leaf_index, r.document, first, last) for r in lost for first, last in r.sentences]
    connection.executemany("INSERT INTO lost_removals VALUES (?, ?, ?, ?)", holes)
    changed = ("state", "removed_epoch", "n_entries")
    same = ", ".join(column.name for column in documents.c if column.name not in changed)
    is_lost = f"state IN ('{LIVE}', '{HIDDEN}') AND id IN (SELECT document FROM lost WHERE sentences = '')"
    is_unwritten = "number NOT IN (SELECT leaf FROM main.log)"
    n_lost = (
        "SELECT coalesce(sum(lost.n_entries), 0) FROM lost "
        f"WHERE lost.document = documents.id AND lost.sentences <> '' AND lost.{is_unwritten}"
    )
    connection.execute(
        f"CREATE TEMP VIEW documents AS SELECT {same}, documents.n_entries - ({n_lost}) AS n_entries, "
        f"CASE WHEN {is_lost} THEN '{REMOVED}' ELSE state END AS state, "
        f"CASE WHEN {is_lost} THEN (SELECT epoch FROM main.state) ELSE removed_epoch END AS removed_epoch "
        "FROM main.documents"
    )
    unwritten = f"FROM lost WHERE {is_unwritten}"
    connection.execute(
        f"CREATE TEMP VIEW optouts AS SELECT {columns} FROM main.optouts UNION ALL SELECT {columns} {unwritten}"
    )
    connection.execute(
        "CREATE TEMP VIEW removals AS SELECT number, leaf, document, first, last, removed_epoch, is_erased "
        "FROM main.removals UNION ALL SELECT -rowid, leaf, document, first, last, (SELECT epoch FROM main.state), 0 "
        "FROM lost_removals WHERE leaf NOT IN (SELECT leaf FROM main.log)"
    )
    connection.execute(
        f"CREATE TEMP VIEW log AS SELECT leaf, commitment FROM main.log UNION ALL SELECT number, commitment {unwritten}"
    )
