"""Making a store and adding documents to it.

One writer at a time, across processes; readers and opt-outs go on meanwhile. New segments are written
beside the old ones and come into being in one transaction, last: a kill at any point before leaves the
store as it was, and what the killed writer left behind is cleared by the next one.
"""

import glob
import itertools
import json
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, select, update

from datastore import catalog_rows, tables
from datastore.catalog import Catalog
from datastore.codecs import MAX_FP16, Codec, KeySpace, fit_space, write_space
from datastore.errors import BadArrays, DatastoreError, DuplicateDocument, WriterBusy
from datastore.files import (
    TEMPORARY_PREFIX,
    checksums,
    locked,
    publish_folder,
    remove_leftovers,
    sync_folder,
    write_bytes,
)
from datastore.manifest import Manifest, write_manifest
from datastore.optout import recover
from datastore.passages import PassageSettings, codes_of
from datastore.records import DocumentFacts, EncodedDocument
from datastore.segment_files import Part, WrittenSegment, copy_segment, write_segment
from datastore.segments import Segment
from datastore.signing import create_key, public_hex
from datastore.store import SEGMENTS, Datastore
from datastore.suppression import Marks, last_suppression, reason
from datastore.tables import LIVE

FITTED_ON = "fitted-on.jsonl"
WRITER_LOCK = "writer.lock"
HIGH_RISK = "HIGH_RISK"
MAX_SEGMENT_POSITIONS = 1 << 20
EXACT_BELOW = 20_000
"""With fewer live entries a search looks at all of them: there is no time to be saved yet."""


@dataclass(frozen=True)
class Encoder:
    """The LM and tokenizer that make keys and tokens, as far as the store needs to know them."""

    fingerprint: str
    name: str
    dimension: int
    vocabulary: int


@dataclass(frozen=True)
class Added:
    """What an ``add`` did."""

    n_documents: int
    """That are live now."""
    n_entries: int
    refused: tuple[tuple[str, str], ...]
    """(document id, reason) of the texts that stay out; ``quarantined: …`` where a reviewer is to decide."""


def create(
    path: Path,
    encoder: Encoder,
    licensed: NDArray[np.floating] | KeySpace,
    fitted_on: Sequence[DocumentFacts],
    *,
    n_lists: int,
    knn_temperature: float,
    now: datetime,
    max_segment_positions: int = MAX_SEGMENT_POSITIONS,
    codec: Codec = Codec(),  # noqa: B008, frozen
    exact_below: int = EXACT_BELOW,
    passages: PassageSettings = PassageSettings(),  # noqa: B008, frozen
) -> Datastore:
    """Make an empty store at ``path``, with the space of its keys fitted on ``licensed`` keys ``(m, d)``.

    ``licensed`` may be a space that was fitted before, which decides on lists and codec. ``fitted_on`` names the
    documents that the keys, or the space, and ``knn_temperature`` came from.

    Raises:
        DatastoreError: ``path`` exists, or a document in ``fitted_on`` is high-risk: what is fitted on a
            text keeps a trace of it that no removal reaches.
        BadArrays: fewer keys than the lists or the codec need, or of another dimension.
    """
    if path.exists():
        raise DatastoreError(f"{path} exists. Add to it with `silo datastore add`, or name a new folder.")
    for facts in fitted_on:
        if facts.risk == HIGH_RISK:
            raise DatastoreError(
                f"document {facts.id!r} (license {facts.license or 'not stated'}) is high-risk; nothing that "
                "search depends on may be fitted on text that can be removed. Fit on PD, SW or BY text."
            )
    shape = (1, licensed.key_dimension) if isinstance(licensed, KeySpace) else licensed.shape
    if len(shape) != 2 or shape[1] != encoder.dimension:
        raise BadArrays(f"licensed keys, or the space of such, must be (m, {encoder.dimension}); got shape {shape}")
    clear_killed(path)
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{path.name}-{uuid.uuid4().hex}")
    temporary.mkdir(parents=True)
    try:
        with locked(temporary / WRITER_LOCK, wait=False):
            space = licensed if isinstance(licensed, KeySpace) else fit_space(licensed, n_lists, codec)
            write_space(temporary, space)
            lines = (
                json.dumps({"id": f.id, "digest": f.digest, "license": f.license, "risk": f.risk}) for f in fitted_on
            )
            write_bytes(temporary / FITTED_ON, "".join(f"{line}\n" for line in lines).encode("utf-8"))
            files = {name: facts for name, facts in checksums(temporary).items() if name != WRITER_LOCK}
            signing_key = create_key(temporary)
            manifest = Manifest(
                store=uuid.uuid4().hex,
                created_at=now.isoformat(),
                encoder=encoder.fingerprint,
                encoder_name=encoder.name,
                dimension=encoder.dimension,
                token_type="uint16" if encoder.vocabulary <= 1 << 16 else "uint32",
                knn_temperature=knn_temperature,
                n_lists=space.n_lists,
                codec=space.kind,
                stored_dimension=space.dimension,
                exact_below=exact_below,
                max_segment_positions=max_segment_positions,
                passage_tokens=passages.max_tokens,
                passage_encoder=passages.encoder,
                passage_encoder_name=passages.encoder_name,
                passage_dimension=passages.dimension,
                n_fitted_documents=len(fitted_on),
                files=files,
                public_key=public_hex(signing_key),
            )
            (temporary / SEGMENTS).mkdir()
            Catalog.create(temporary)
            write_manifest(temporary, manifest, signing_key)
            publish_folder(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return Datastore(path)


def add(store: Datastore, documents: Iterable[EncodedDocument]) -> Added:
    """Add ``documents`` in order; all of them or, on any error, none.

    A text that was opted out is refused and listed, by id, by digest, and by what it shares with the removed
    text (``suppression``); one that resembles a removed text is quarantined: not added, and listed so. Texts whose
    original is opted out meanwhile, too; ids of texts that stay out may be used again.

    Raises:
        DuplicateDocument: an id is in the store already, or comes twice.
        BadArrays: keys of another dimension, or tokens outside the vocabulary's type.
        WriterBusy: another process is writing.
    """
    with writing(store):
        recover(store)  # what only the journal knows is barred from here on
        refused: list[tuple[str, str]] = []
        marks: dict[str, Marks] = {}
        written: list[tuple[WrittenSegment, list[_Row]]] = []
        names = new_names(store)
        limit = store.manifest.max_segment_positions
        with store.catalog.read() as connection:
            checked = last_suppression(connection)
        for batch in _batches(_admitted(store, documents, marks, refused), limit):
            segment = write_segment(
                store.path / SEGMENTS,
                next(names),
                store.space,
                store.manifest.token_type,
                store.passage_settings,
                batch,
            )
            written.append(
                (
                    segment,
                    [_Row(d.facts, marks.pop(d.facts.id), len(d.tokens), len(d.keys), len(d.sentences)) for d in batch],
                )
            )
        while written:
            with suppress(_Overtaken), store.catalog.change() as connection:
                late = _late(connection, written, checked)
                if late:
                    raise _Overtaken
                _publish(connection, written)
                break
            refused += late.items()
            written = [kept for each in written if (kept := _without(store, *each, late, next(names)))]
    live = [row for _, batch in written for row in batch]
    return Added(len(live), sum(row.n_entries for row in live), tuple(refused))


@contextmanager
def writing(store: Datastore) -> Iterator[None]:
    """Be the one process that writes segments to ``store``. Raises WriterBusy where another one is."""
    with locked(store.path / WRITER_LOCK, wait=False):
        remove_leftovers(store.path / SEGMENTS)
        with store.catalog.read() as connection:
            known = set(connection.execute(select(tables.segments.c.name)).scalars())
        for folder in (store.path / SEGMENTS).iterdir():
            if folder.name not in known:
                shutil.rmtree(folder) if folder.is_dir() else folder.unlink()
        yield


def clear_killed(path: Path) -> None:
    """Take away what a killed ``create`` left beside ``path``: the folders that no process holds the lock of."""
    for folder in path.parent.glob(f"{TEMPORARY_PREFIX}{glob.escape(path.name)}-*"):
        with suppress(WriterBusy, OSError), locked(folder / WRITER_LOCK, wait=False):
            shutil.rmtree(folder)


def new_names(store: Datastore) -> Iterator[str]:
    """Names for new segments, in order, never used before in this store."""
    with store.catalog.read() as connection:
        number: int = connection.execute(select(tables.state.c.next_segment)).scalar_one()
    return (f"{n:08d}" for n in itertools.count(number))


def record_segment(connection: Connection, segment: WrittenSegment) -> None:
    """Enter ``segment`` in the catalog."""
    number = int(segment.name)
    connection.execute(
        tables.segments.insert().values(
            name=segment.name, number=number, sha256=segment.sha256, n_positions=segment.n_positions
        )
    )
    connection.execute(update(tables.state).values(next_segment=number + 1))


@dataclass(frozen=True)
class _Row:
    """What the catalog will say of a document that was written."""

    facts: DocumentFacts
    marks: Marks
    n_positions: int
    n_entries: int
    n_sentences: int


def _admitted(
    store: Datastore,
    documents: Iterable[EncodedDocument],
    marks: dict[str, Marks],
    refused: list[tuple[str, str]],
) -> Iterator[EncodedDocument]:
    """The documents that may enter, checked one by one; their marks go to ``marks``, opted-out texts to ``refused``."""
    seen: set[str] = set()
    for document in documents:
        facts = document.facts
        _check_arrays(store, document)
        own = Marks.of(document.text)
        with store.catalog.read() as connection:
            barred = reason(connection, facts, own)
            is_known = connection.execute(
                select(tables.documents.c.number).where(tables.documents.c.id == facts.id)
            ).first()
        if barred:
            refused.append((facts.id, barred))
        elif is_known or facts.id in seen:
            where = "in this store already" if is_known else "twice in this batch"
            raise DuplicateDocument(
                f"document id {facts.id!r} is {where}; ids are unique and are not used again. "
                "Nothing was added. Give the document another id, or leave it out."
            )
        else:
            seen.add(facts.id)
            marks[facts.id] = own
            yield document


def _check_arrays(store: Datastore, document: EncodedDocument) -> None:
    manifest = store.manifest
    if document.keys.shape[1] != manifest.dimension:
        raise BadArrays(
            f"document {document.facts.id!r}: keys must have {manifest.dimension} dimensions, as this store's encoder "
            f"{manifest.encoder_name!r} makes them; got {document.keys.shape[1]}"
        )
    if len(document.keys) and not np.abs(document.keys).max() <= MAX_FP16:
        raise BadArrays(
            f"document {document.facts.id!r}: keys must lie within ±{MAX_FP16:,.0f} to be stored as fp16; "
            f"got {np.abs(document.keys).max():,.6g}"
        )
    largest = np.iinfo(manifest.token_type).max
    if len(document.tokens) and (document.tokens.min() < 0 or document.tokens.max() > largest):
        raise BadArrays(f"document {document.facts.id!r}: token ids must lie from 0 to {largest}")
    codes_of(document, store.passage_settings)


def _batches(documents: Iterable[EncodedDocument], max_positions: int) -> Iterator[list[EncodedDocument]]:
    """Runs of documents, one per segment, cut as ``segment_files.cut`` cuts."""
    batch: list[EncodedDocument] = []
    filled = 0
    for document in documents:
        if batch and filled + len(document.tokens) > max_positions:
            yield batch
            batch, filled = [], 0
        batch.append(document)
        filled += len(document.tokens)
    if batch:
        yield batch


class _Overtaken(Exception):
    """A text was opted out while it was being added; never leaves this module."""


def _late(connection: Connection, written: Sequence[tuple[WrittenSegment, list[_Row]]], checked: int) -> dict[str, str]:
    """Why documents may not enter that were checked and written before the suppressions after number ``checked``."""
    rows = [row for _, batch in written for row in batch]
    reasons = ((row.facts.id, reason(connection, row.facts, row.marks, since=checked)) for row in rows)
    return {name: why for name, why in reasons if why}


def _without(
    store: Datastore, segment: WrittenSegment, rows: list[_Row], late: Mapping[str, str], spare: str
) -> tuple[WrittenSegment, list[_Row]] | None:
    """A segment that is not published yet without the documents in ``late``, under its own name; None if it had only
    those. They leave no bytes and no row, so their ids stay free. ``spare`` is a name that is not in use.
    """
    kept = [ordinal for ordinal, row in enumerate(rows) if row.facts.id not in late]
    if len(kept) == len(rows):
        return segment, rows
    folder, folders = store.path / SEGMENTS / segment.name, store.path / SEGMENTS
    fresh = None
    if kept:
        opened = Segment(folder, segment.sha256, store.space, store.manifest.passage_dimension)
        parts = [Part(opened, ordinal) for ordinal in kept]
        fresh = copy_segment(folders, spare, store.space, store.manifest.token_type, store.passage_settings, parts)
    shutil.rmtree(folder)
    if fresh is None:
        return None
    (folders / spare).rename(folder)
    sync_folder(folders)
    return replace(fresh, name=segment.name), [rows[ordinal] for ordinal in kept]


def _publish(connection: Connection, written: Sequence[tuple[WrittenSegment, list[_Row]]]) -> None:
    """Enter segments and documents."""
    for segment, rows in written:
        record_segment(connection, segment)
        for ordinal, row in enumerate(rows):
            connection.execute(
                tables.documents.insert().values(
                    **catalog_rows.columns_of(row.facts),
                    state=LIVE,
                    removed_epoch=None,
                    segment=segment.name,
                    ordinal=ordinal,
                    n_positions=row.n_positions,
                    n_entries=row.n_entries,
                    n_sentences=row.n_sentences,
                )
            )
