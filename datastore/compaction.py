"""Compaction: the bytes of removed documents and passages go, and what stays is as if they had never come.

Live documents, and hidden ones, which may come back, are laid out again in the order of ingestion, cut into
segments as a store built from scratch would be, and copied list by list, so every file equals, byte for byte, the
one that a build without the removed documents, and with ``redaction.without_sentences`` of those that lost passages,
writes. Segments that would come out the same are kept. The change is published in one transaction; then the old files
go, the catalog's own free pages and log are cleared, and keys of backups are destroyed (``keyring``): those of removed
documents, and those that documents had before they lost passages.
"""

import itertools
import shutil
import time
from dataclasses import dataclass, replace

from sqlalchemy import Connection, delete, select, update

from datastore import backup_keys, catalog, catalog_rows, log_rows, tables
from datastore.errors import WriterBusy
from datastore.files import sync_folder
from datastore.redaction import Ranges
from datastore.rotation import destroy_retired_keys
from datastore.segment_files import Part, WrittenSegment, copy_segment, cut
from datastore.segments import Segment
from datastore.store import SEGMENTS, Datastore
from datastore.tables import ERASED, HIDDEN, LIVE, REMOVED, WIPED
from datastore.writer import new_names, record_segment, writing


@dataclass(frozen=True)
class Compacted:
    """What a compaction did."""

    n_erased: int
    """Documents whose bytes are gone now."""
    n_segments_before: int
    n_segments_after: int
    unreached: tuple[str, ...] = ()
    """Copies of the keys of backups that could not be opened, in which the documents' keys may be left."""


@dataclass(frozen=True)
class _Kept:
    """A document that stays and where it lies."""

    number: int
    segment: str
    ordinal: int
    n_positions: int
    """Once its removed sentences are gone."""
    removed: Ranges = ()
    """Sentences to leave out now."""


def compact(store: Datastore, *, patience: float = 30.0) -> Compacted:
    """Erase the bytes of every document removed so far; ``patience`` is in seconds.

    Raises:
        WriterBusy: another process is writing; or a reader kept the catalog's log open longer than
            ``patience``, so that removed rows may still lie in it. The documents are out of service all the same.
    """
    with writing(store):
        with store.catalog.read() as connection:
            s = tables.segments.c
            sizes = {
                row.name: row.n_positions
                for row in connection.execute(select(s.name, s.n_positions).order_by(s.number))
            }
            d = tables.documents.c
            query = select(d.number, d.segment, d.ordinal, d.n_positions).order_by(d.number)
            kept = [_Kept(*row) for row in connection.execute(query.where(d.state.in_((LIVE, HIDDEN))))]
            kept, passages = _without_passages(store, connection, kept)
            removed = list(connection.execute(select(d.number).where(d.state == REMOVED)).scalars())
        layout = [kept[a:b] for a, b in cut([k.n_positions for k in kept], store.manifest.max_segment_positions)]
        names, n_same = list(sizes), _n_unchanged(layout, sizes)
        written = _write(store, layout[n_same:])
        with store.catalog.change() as connection:
            for name in names[n_same:]:
                connection.execute(delete(tables.segments).where(tables.segments.c.name == name))
            for segment, documents in written:
                record_segment(connection, segment)
                for ordinal, document in enumerate(documents):
                    here = tables.documents.c.number == document.number
                    connection.execute(
                        update(tables.documents)
                        .where(here)
                        .values(segment=segment.name, ordinal=ordinal, n_positions=document.n_positions)
                    )
            for number in passages:
                here = tables.removals.c.number == number
                connection.execute(update(tables.removals).where(here).values(is_erased=True))
            for number in removed:
                here = tables.documents.c.number == number
                connection.execute(update(tables.documents).where(here).values(state=ERASED, segment=None, **WIPED))
        for name in names[n_same:]:
            shutil.rmtree(store.path / SEGMENTS / name)
        sync_folder(store.path / SEGMENTS)  # or a loss of power brings them back
        _clear_log(store, patience)
        unreached = _destroy_keys(store)
    return Compacted(len(removed), len(names), n_same + len(written), tuple(unreached))


def _without_passages(store: Datastore, connection: Connection, kept: list[_Kept]) -> tuple[list[_Kept], list[int]]:
    """``kept`` as it will be without the sentences removed so far, and the numbers of those removals."""
    r, d = tables.removals.c, tables.documents.c
    numbers = list(connection.execute(select(r.number).where(~r.is_erased)).scalars())
    query = select(d.number, d.id).where(d.id.in_(select(r.document).where(~r.is_erased)))
    holes = {n: catalog_rows.removed_sentences(connection, name, pending=True) for n, name in connection.execute(query)}
    for i, document in enumerate(kept):
        if removed := holes.get(document.number):
            left = store.segment(document.segment).redacted(document.ordinal, removed)
            kept[i] = replace(document, n_positions=int(left.is_kept.sum()), removed=removed)
    return kept, numbers


def _n_unchanged(layout: list[list[_Kept]], sizes: dict[str, int]) -> int:
    """How many leading segments hold already what the layout puts into them, and nothing else.

    ``sizes`` has the positions of each segment by name, in order.
    """
    held = [
        ({d.segment for d in part}, sum(d.n_positions for d in part), any(d.removed for d in part)) for part in layout
    ]
    pairs = zip(held, sizes.items(), strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == ({pair[1][0]}, pair[1][1], False), pairs))


def _write(store: Datastore, layout: list[list[_Kept]]) -> list[tuple[WrittenSegment, list[_Kept]]]:
    names = new_names(store)
    written = []
    for documents in layout:
        opened: dict[str, Segment] = {}
        for document in documents:
            if document.segment not in opened:
                opened[document.segment] = store.open_segment(document.segment)
        parts = [Part(opened[document.segment], document.ordinal, document.removed) for document in documents]
        segment = copy_segment(
            store.path / SEGMENTS,
            next(names),
            store.space,
            store.manifest.token_type,
            store.passage_settings,
            parts,
        )
        written.append((segment, documents))
    return written


def _destroy_keys(store: Datastore) -> list[str]:
    """Destroy the keys that erased documents and passages have in backups, and private keys of the store that are
    retired.

    Of all that were ever erased, so that what a kill or a copy out of reach left is taken up by the next compaction. A
    document that lost passages gets another key with its next backup; that one is not destroyed.
    """
    with store.catalog.read() as connection:
        d = tables.documents.c
        n_leaves = log_rows.n_leaves(connection)
        older = catalog_rows.changed_at(connection, erased=True)
        older |= dict.fromkeys(connection.execute(select(d.id).where(d.state == ERASED)).scalars(), n_leaves + 1)
    unreached = backup_keys.destroy(store.path, store.id, older, n_leaves)
    return sorted({*unreached, *destroy_retired_keys(store)})


def _clear_log(store: Datastore, patience: float) -> None:
    """Cut the catalog's write-ahead log to nothing: old rows lie in it until then."""
    deadline = time.monotonic() + patience
    while not store.catalog.checkpoint():
        if time.monotonic() > deadline:
            raise WriterBusy(
                f"a reader has held {store.path / catalog.FILE_NAME} open for {patience:.0f} s, so its log could not "
                "be cleared. The removed documents are out of service, but rows about them may remain; "
                "run `silo datastore compact` again."
            )
        time.sleep(0.05)
