"""The catalog: which documents, segments and opt-outs a store has, and its epoch.

SQLite, in write-ahead mode with ``synchronous=FULL`` (an acknowledged commit survives a power loss)
and ``secure_delete=ON`` (no deleted text in free pages). Knows names and numbers, no vectors. The catalog is
the one source of truth: a segment that it does not name does not exist, and a document is live if it says so,
unless the journal knows better. A catalog that was restored from an older copy lacks the newest opt-outs: every
reader then sees the union of both, made in memory when the store is opened, and the next change, whatever it is,
begins by writing it. Every change ends by writing to the journal what only the catalog has.
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select, update
from sqlalchemy.exc import DatabaseError

from datastore import log_rows
from datastore.catalog_rows import epoch_of, record_opt_out
from datastore.connections import engine, explained, reading
from datastore.epoch import Epoch
from datastore.errors import CorruptDatastore, DatastoreError
from datastore.files import is_read_only, sync_file
from datastore.journal import Journal, lost_leaves
from datastore.key_chain import KeyChain
from datastore.merkle import Tree
from datastore.receipts import Receipt, receipt_from_json
from datastore.request_tables import schema as request_schema
from datastore.tables import LIVE, optouts, schema, state
from datastore.union import see_union

FILE_NAME = "catalog.sqlite"

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
        self._reader = reading(path, self._see_lost) if is_read_only(folder) else engine(path, "BEGIN", self._see_lost)
        self._writer = engine(path, "BEGIN IMMEDIATE")
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
        made = engine(folder / FILE_NAME, "BEGIN IMMEDIATE")
        with made.begin() as connection:
            schema.create_all(connection)
            request_schema.create_all(connection)
            connection.execute(state.insert().values(id=1, epoch=0, next_segment=1))
        made.dispose()

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
            with explained(), self._writer.begin() as connection:
                self._take_from_journal(connection)
                yield connection
                connection.execute(update(state).values(epoch=state.c.epoch + 1))
            self._give_to_journal()

    @contextmanager
    def note(self) -> Iterator[Connection]:
        """One durable transaction about what no answer depends on: the epoch stays, and readers keep what they know."""
        with explained(), self._writer.begin() as connection:
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
        size = log_rows.n_leaves(connection)
        with self._tree_lock:
            if len(self._tree) < size:
                for leaf in log_rows.commitments(connection, since=len(self._tree)):
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

    def _see_lost(self, connection: Any) -> None:
        if self.lost:
            see_union(connection, self.lost)

    def _lost(self, connection: Connection) -> list[Receipt]:
        """What the journal has and the catalog lacks. Raises CorruptDatastore where the two are no whole log."""
        newest = connection.execute(select(optouts.c.receipt).order_by(optouts.c.number.desc()).limit(1)).scalar()
        try:
            latest = receipt_from_json(json.loads(newest)).head.to_json() if newest is not None else None
            leaves, tree = lost_leaves(self.journal, log_rows.commitments(connection), latest, self._chain())
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
        lost = self._lost(connection) if self.journal.n_leaves > log_rows.n_leaves(connection) else []
        reached = max([self.shared_epoch.value() // 2, *(receipt.epoch for receipt in lost)])
        connection.execute(update(state).where(state.c.epoch < reached).values(epoch=reached))
        bars = self.journal.bars() if lost else {}
        for receipt in lost:
            record_opt_out(connection, receipt, self.bar(connection, receipt, bars.get(receipt.leaf_index, "")))

    def _give_to_journal(self) -> None:
        """Append what the catalog has and the journal lacks: the newest opt-out, and those of writers that died."""
        with self.read() as connection:
            missing = log_rows.missing_from(self.journal, log_rows.n_leaves(connection))
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
            with explained():
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
