"""The store as its readers see it: search, and where each answer comes from.

Opening a store reads it and writes nothing, so it may lie on a disk that can only be read; an opt-out that only the
journal knows is in force from then on, and `recover` or any change writes it. Every search answers as of one epoch: it
reads the epoch, searches the live entries, and reads the epoch again; if a change came in between, it searches again.
So a search that begins after an opt-out was acknowledged cannot return a removed entry, in whichever process it runs.
What is computed from an answer is computed inside a ``step``, which opt-outs wait for (``readers``). Entry ids are
positions counted through all segments; they follow the order of ingestion and hold for one layout of the store, so
resolve them at once with ``locate``.

Every opening hashes every file. Nothing is remembered by size and time: a disk that loses or swaps bytes changes
neither, and a file that is changed by hand can be given both again. A handle that stays open hashes a segment once,
since its map is of that very file.
"""

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray
from sqlalchemy import Connection, func, select

from datastore import catalog_rows, tables
from datastore.catalog import Catalog
from datastore.codecs import KeySpace, read_space
from datastore.errors import BadArrays, CorruptDatastore, ReaderFenced, UnknownDocument
from datastore.files import check_files
from datastore.hiding import is_any_released_since
from datastore.manifest import Manifest, read_manifest
from datastore.ngrams import Sequences
from datastore.passages import PassageSettings
from datastore.ranking import Question, Scorer
from datastore.readers import Readers, Step
from datastore.receipts import Receipt
from datastore.records import (
    Continuations,
    LiveText,
    Neighbors,
    Occurrences,
    Passages,
    Place,
    StoredDocument,
    TokenRun,
    is_text,
)
from datastore.redaction import Ranges, lies_in
from datastore.segments import Segment
from datastore.signing import load_key
from datastore.snapshots import Snapshot, continuations, longest_run, occurrences, passages, search
from datastore.suppression import Marks, marks_in, packed
from datastore.suppression import suppress as bar_text
from datastore.tables import LIVE
from datastore.views import LiveMask

SEGMENTS = "segments"

Answer = TypeVar("Answer")


class Datastore:
    """A store that is open for reading, safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        """Open the store in the folder ``path``; every file is checked against its SHA-256 first.

        Raises:
            NotADatastore: the folder holds none.
            CorruptDatastore: a file is missing, torn or edited, or the log of opt-outs is not whole.
        """
        self.path = path
        self.manifest: Manifest = read_manifest(path)
        check_files(path, self.manifest.files)
        self.space: KeySpace = read_space(path, self.manifest.codec, self.manifest.is_projected)
        self.catalog = Catalog(path, lambda: read_manifest(path).chain)
        self.catalog.bar = self._bar
        self.readers = Readers(path, self.catalog.shared_epoch)
        self._lock = threading.Lock()
        self._known: tuple[int, Snapshot | None] = (-1, None)
        self._current()

    @classmethod
    def open(cls, path: Path | str) -> "Datastore":
        """As the constructor."""
        return cls(Path(path))

    def close(self) -> None:
        """Let go of files and connections."""
        self.readers.close()
        self.catalog.close()
        self._known = (-1, None)

    def signing_key(self) -> Ed25519PrivateKey:
        """The key that signs for this store now; another process may have rotated it since the store was opened.

        Raises CorruptDatastore where it is not the one that the manifest names.
        """
        while True:
            self.manifest = read_manifest(self.path)
            try:
                return load_key(self.path, self.manifest.public_key)
            except CorruptDatastore:
                if read_manifest(self.path).public_key == self.manifest.public_key:
                    raise

    @property
    def id(self) -> str:
        """Random name of this store."""
        return self.manifest.store

    @property
    def epoch(self) -> int:
        """How many changes this store has seen; answers of one epoch are answers of one set of documents."""
        return self._current().epoch

    @property
    def passage_settings(self) -> PassageSettings:
        """How this store cuts passages, and what made their vectors."""
        return self.manifest.passage_settings

    @property
    def n_entries(self) -> int:
        """Entries that may be served now."""
        with self.catalog.read() as connection:
            query = select(func.coalesce(func.sum(tables.documents.c.n_entries), 0))
            return int(connection.execute(query.where(tables.documents.c.state == LIVE)).scalar_one())

    def step(self) -> Step:
        """A stretch of work with answers of this store, as ``with store.step():``, which opt-outs wait for.

        Keep it short: one that has not ended 2 s after an opt-out raises ReaderFenced at its next question or its end.
        Its result must not be used then; begin again.
        """
        return self.readers.step()

    def search(self, queries: NDArray[np.floating], k: int, n_probe: int = 8) -> Neighbors:
        """The ``k`` nearest live entries of each of ``queries`` ``(q, d)`` in the ``n_probe`` nearest inverted lists.

        With fewer live entries than the manifest's ``exact_below`` all lists are scanned. A query with NaN or
        infinite values gets no neighbors.

        Raises:
            BadArrays: the queries are not ``(q, d)``, or ``k`` or ``n_probe`` is not positive.
        """
        if queries.ndim != 2 or queries.shape[1] != self.manifest.dimension:
            raise BadArrays(f"queries must be (q, {self.manifest.dimension}); got shape {queries.shape}")
        if k < 1 or n_probe < 1:
            raise BadArrays(f"k and n_probe must be at least 1; got k={k}, n_probe={n_probe}")
        exact = np.ascontiguousarray(queries, dtype=np.float32)

        def answer(snapshot: Snapshot) -> Neighbors:
            is_small = snapshot.n_live() < self.manifest.exact_below
            return search(snapshot, self.space, exact, k, self.space.n_lists if is_small else n_probe)

        return self._answer(answer)

    def continuations(
        self,
        contexts: Sequence[NDArray[np.integer] | Sequence[int]],
        limits: Sequence[int] | None = None,
    ) -> Continuations:
        """The longest suffix of each of ``contexts`` that occurs in live documents, and the tokens that followed it.

        ``limits``, at least 1 each, ask for the longest suffix of at most so many tokens, once for each: the first
        may be large and the others shorter, to back off to. None asks once, for the longest of any length.

        Raises:
            BadArrays: a context is not one-dimensional or has negative tokens, or a limit is less than 1.
        """
        if limits is not None and (len(limits) == 0 or min(limits) < 1):
            raise BadArrays(f"limits must be one or more numbers of at least 1; got {list(limits)}")
        packed = Sequences.of(contexts)
        caps = np.array([np.iinfo(np.int64).max] if limits is None else limits, dtype=np.int64)
        return self._answer(lambda snapshot: continuations(snapshot, packed, caps))

    def occurrences(self, tokens: NDArray[np.integer] | Sequence[int], n: int = 100) -> Occurrences:
        """How many times ``tokens`` occur in a row in live documents, and the first ``n`` entries where they do.

        A sequence with an end-of-text token occurs nowhere: that token is the last of its document and has no entry.

        Raises:
            BadArrays: there are no tokens, some are negative, or ``n`` is negative.
        """
        sequence = Sequences.of([tokens])
        if sequence.lengths[0] == 0 or n < 0:
            raise BadArrays(f"occurrences takes at least one token and n of at least 0; got {len(tokens)} and n={n}")
        return self._answer(lambda snapshot: occurrences(snapshot, sequence, n))

    def passages(
        self, query: str, k: int, scorer: Scorer = "bm25", vector: NDArray[np.floating] | None = None
    ) -> Passages:
        """The ``k`` live passages that answer ``query`` best, or fewer where fewer do.

        ``bm25`` compares words, ``dense`` unit vectors, of which the query's is ``vector`` ``(e,)``, and ``fused``
        joins both rankings. A query without a word of the store gets nothing from ``bm25``.

        Raises:
            BadArrays: ``k``, ``scorer`` or ``query`` is unusable; the vector is missing, not wanted or of another
                shape or length than 1; or the store has no passage vectors.
        """
        question = Question.of(query, k, scorer, vector, self.manifest.passage_dimension)
        return self._answer(lambda snapshot: passages(snapshot, question, lambda *at: self._name(snapshot, *at)))

    def passage_text(self, document: str, number: int) -> str:
        """The text of a live passage, by its index in its document. Raises UnknownDocument where there is none."""

        def answer(snapshot: Snapshot) -> str:
            segment, ordinal = self._find_live(snapshot, document)
            mask = snapshot.masks[snapshot.segments.index(segment)]
            first, after = segment.first_passage(ordinal), segment.first_passage(ordinal + 1)
            if not 0 <= number < after - first:
                raise UnknownDocument(f"document {document!r} has {after - first} passages; got index {number}")
            if not segment.passages.living(mask).flags[first + number]:
                raise UnknownDocument(f"passage {number} of document {document!r} is not served by this store")
            return segment.text(ordinal)[slice(*segment.passage(first + number).characters)]

        return self._answer(answer)

    def longest_run(self, tokens: NDArray[np.integer] | Sequence[int], n: int = 100) -> TokenRun:
        """The longest run of ``tokens`` in live documents, the first of equals, and the first ``n`` entries it ends at.

        Raises:
            BadArrays: there are no tokens, or some are negative.
        """
        sequence = Sequences.of([tokens])
        if sequence.lengths[0] == 0:
            raise BadArrays("longest_run takes at least one token")
        return self._answer(lambda snapshot: longest_run(snapshot, sequence.tokens[:-1], n))

    def locate(self, entries: Sequence[int] | NDArray[np.int64], epoch: int) -> list[Place] | None:
        """The document and sentence of each of ``entries``, which a search of ``epoch`` gave.

        None where the store has changed since, or one of them is not served: search again.
        """
        snapshot = self._current()
        if snapshot.epoch != epoch:
            return None
        try:
            return self._places(snapshot, np.asarray(entries, dtype=np.int64))
        except _LayoutMoved:
            return None

    def following(self, entry: int, n: int, epoch: int) -> NDArray[np.int64] | None:
        """The values of the first of ``n`` entries from ``entry`` on, which an answer of ``epoch`` gave.

        They end with the document, and before an entry that is not live. None where the store has changed since.
        """
        snapshot = self._current()
        if snapshot.epoch != epoch:
            return None
        index = int(np.searchsorted(snapshot.starts, entry, side="right")) - 1
        segment, first = snapshot.segments[index], entry - snapshot.starts[index]
        stop = min(first + n, segment.end_of(first) - 1)  # the end of text has no entry
        is_live = snapshot.masks[index].flags[first:stop]
        n_live = len(is_live) if is_live.all() else int(is_live.argmin())
        return segment.tokens[first + 1 : first + 1 + n_live].astype(np.int64)

    def document(self, id: str) -> StoredDocument:  # noqa: A002
        """What the store knows of a document, removed ones too. Raises UnknownDocument."""
        row = None
        if is_text(id):
            with self.catalog.read() as connection:
                query = select(tables.documents).where(tables.documents.c.id == id)
                row = connection.execute(query).mappings().first()
        if row is None:
            raise UnknownDocument(
                f"no document {id!r} was ever in this store; `silo datastore info --documents` lists them."
            )
        return catalog_rows.stored_of(row)

    def documents(self, state: str | None = None) -> Iterator[StoredDocument]:
        """All documents in the order of ingestion, or those of one state, as ``StoredDocument.state`` names them."""
        query = select(tables.documents).order_by(tables.documents.c.number)
        with self.catalog.read() as connection:
            rows = connection.execute(query if state is None else query.where(tables.documents.c.state == state))
            for row in rows.mappings():
                yield catalog_rows.stored_of(row)

    def sentence_text(self, document: str, sentence: int) -> str:
        """The text of a live document's sentence. Raises UnknownDocument where either is not to be had."""

        def answer(snapshot: Snapshot) -> str:
            segment, ordinal = self._find_live(snapshot, document)
            rows = segment.sentences(ordinal)
            with self.catalog.read() as connection:
                removed = catalog_rows.removed_sentences(connection, document)
            if lies_in(np.array([sentence]), removed)[0]:
                raise UnknownDocument(f"sentence {sentence} of document {document!r} was taken out of this store")
            if not 0 <= sentence < len(rows):
                raise UnknownDocument(f"document {document!r} has {len(rows)} sentences; got index {sentence}")
            return segment.text(ordinal)[rows[sentence, 1] : rows[sentence, 2]]

        return self._answer(answer)

    def stored_text(self, document: str) -> str | None:
        """The text of a document, removed ones too; None where its bytes are erased or never were here.

        For opting out, not for serving: sentences that were taken out are in it until compaction.
        """
        return self._of_stored(document, lambda segment, ordinal: segment.text(ordinal))

    def stored_sentences(self, document: str, ranges: Ranges) -> list[str]:
        """The text of each of ``ranges`` of sentences of a document, as ``stored_text`` has it."""
        return self._of_stored(document, lambda segment, ordinal: segment.raw(ordinal).sentence_texts(ranges)) or []

    def live_text(self, document: str) -> LiveText | None:
        """What may be served of the text of ``document``; None where it is not live."""

        def answer(snapshot: Snapshot) -> LiveText | None:
            with self.catalog.read() as connection:
                row = catalog_rows.place_of(connection, document)
                removed = catalog_rows.removed_sentences(connection, document)
            if row is None or row.state != LIVE:
                return None
            segment = snapshot.segments[_index_of(snapshot, row.segment)]
            spans = segment.sentences(row.ordinal)[:, 1:]
            return LiveText(segment.text(row.ordinal), spans, lies_in(np.arange(len(spans)), removed))

        return self._answer(answer)

    def _of_stored(self, document: str, question: Callable[[Segment, int], Answer]) -> Answer | None:
        """What ``question`` says of the segment and ordinal of a document; None where no segment has it."""
        while True:
            snapshot = self._current()
            with self.catalog.read() as connection:
                row = catalog_rows.place_of(connection, document)
            if row is None or row.segment is None:
                return None
            with suppress(_LayoutMoved):
                return question(snapshot.segments[_index_of(snapshot, row.segment)], row.ordinal)

    def live_entries(self, document: str, sentences: Ranges | None = None) -> int:
        """How many entries of ``document`` a search could return now, or of some of its sentences.

        An entry belongs to the sentences of its key and of its value. Raises UnknownDocument if it never was here.
        """
        self.document(document)

        def answer(snapshot: Snapshot) -> int:
            with self.catalog.read() as connection:
                row = catalog_rows.place_of(connection, document)
            if row is None or row.segment is None:
                return 0
            index = _index_of(snapshot, row.segment)
            segment = snapshot.segments[index]
            is_entry = segment.redacted(row.ordinal).is_entry
            if sentences is not None:
                is_entry = is_entry & ~segment.redacted(row.ordinal, sentences).is_entry
            return int((is_entry & snapshot.masks[index].flags[slice(*segment.span(row.ordinal))]).sum())

        return self._answer(answer)

    def _answer(self, question: Callable[[Snapshot], Answer]) -> Answer:
        """Ask until no change came in between: the answer then belongs to one epoch."""
        if self.readers.check():
            return self._asked(question)
        while True:
            with suppress(ReaderFenced), self.step():
                return self._asked(question)

    def _asked(self, question: Callable[[Snapshot], Answer]) -> Answer:
        """The answer of one epoch, in a step. Raises ReaderFenced."""
        while True:
            self.readers.check()
            snapshot = self._current()
            try:
                answer = question(snapshot)
            except _LayoutMoved:
                continue
            if self._current().epoch == snapshot.epoch:
                return answer

    def _current(self) -> Snapshot:
        """The store now; goes to the catalog only where the shared epoch moved or is in doubt."""
        shared = self.catalog.shared_epoch.value()
        seen, snapshot = self._known
        if snapshot is not None and shared == seen and shared % 2 == 0:
            return snapshot
        with self._lock:
            # The number was read before the catalog, so a snapshot is never older than the number it is kept under.
            snapshot = self._refreshed(self._known[1])
            self._known = (shared, snapshot)
            return snapshot

    def _refreshed(self, old: Snapshot | None) -> Snapshot:
        """The snapshot that the catalog describes, made of ``old`` where that is still right."""
        while True:
            with self.catalog.read() as connection:
                epoch = catalog_rows.epoch_of(connection)
                if old is not None and epoch == old.epoch:
                    return old
                listed = connection.execute(select(tables.segments).order_by(tables.segments.c.number)).all()
                is_same_layout = old is not None and old.layout == tuple(row.name for row in listed)
                if old is not None and is_any_released_since(connection, old.epoch):
                    is_same_layout = False  # masks only lose entries, and one that was hidden came back
                since = old.epoch if old is not None and is_same_layout else 0
                gone, holes = catalog_rows.removed_since(connection, since), catalog_rows.holes_since(connection, since)
            if old is not None and is_same_layout:
                fresh = Snapshot(epoch, old.layout, old.segments, old.starts, old.masks, old.names)
                fresh.holes, fresh.ngrams = old.holes, old.ngrams
            else:
                opened = {segment.name: segment for segment in old.segments} if old is not None else {}
                try:
                    parts = [opened.get(row.name) or self._open(row.name, row.sha256) for row in listed]
                except CorruptDatastore:
                    if self.catalog.epoch() != epoch:
                        continue  # compaction took the segment away between the two looks
                    raise
                starts = list(itertools.accumulate((part.n_positions for part in parts), initial=0))[: len(parts)]
                masks = [LiveMask.all(part.n_positions) for part in parts]
                fresh = Snapshot(epoch, tuple(row.name for row in listed), parts, starts, masks)
            return fresh.take_out(gone, holes)

    def segment(self, name: str) -> Segment:
        """The segment ``name``, as it is open already or opened now."""
        _, snapshot = self._known
        opened = {} if snapshot is None else {segment.name: segment for segment in snapshot.segments}
        return opened.get(name) or self.open_segment(name)

    def open_segment(self, name: str) -> Segment:
        """The segment ``name``, checked against its checksums. Raises CorruptDatastore."""
        with self.catalog.read() as connection:
            query = select(tables.segments.c.sha256).where(tables.segments.c.name == name)
            return self._open(name, connection.execute(query).scalar_one())

    def _bar(self, connection: Connection, receipt: Receipt, bars: str) -> str:
        """Keep the text of ``receipt`` from coming back, by ``bars`` or where a segment has it; returns what barred it.

        A catalog that forgot the opt-out does not know its fingerprints either, and compaction takes the text away.
        """
        marks = marks_in(bars)
        row = catalog_rows.place_of(connection, receipt.document)
        if not marks and row is not None and row.segment is not None:
            pieces = self.open_segment(row.segment).raw(row.ordinal)
            texts = pieces.sentence_texts(receipt.sentences) if receipt.sentences else [pieces.string]
            marks = [Marks.of(text) for text in texts]
        for each in marks:
            bar_text(connection, each)
        return packed(marks)

    def _open(self, name: str, sha256: str) -> Segment:
        return Segment(self.path / SEGMENTS / name, sha256, self.space, self.manifest.passage_dimension)

    def _find_live(self, snapshot: Snapshot, document: str) -> tuple[Segment, int]:
        with self.catalog.read() as connection:
            row = catalog_rows.place_of(connection, document)
        if row is None or row.state != LIVE:
            raise UnknownDocument(f"document {document!r} is not served by this store")
        return snapshot.segments[_index_of(snapshot, row.segment)], row.ordinal

    def _places(self, snapshot: Snapshot, entries: NDArray[np.int64]) -> list[Place]:
        indices = np.searchsorted(snapshot.starts, entries, side="right") - 1
        places: list[Place | None] = [None] * len(entries)
        for index in np.unique(indices).tolist():
            segment, rows = snapshot.segments[index], np.flatnonzero(indices == index)
            if not snapshot.masks[index].flags[entries[rows] - snapshot.starts[index]].all():
                raise _LayoutMoved
            found = segment.locate(entries[rows] - snapshot.starts[index])
            for row, (ordinal, sentence, stored) in zip(rows.tolist(), found, strict=True):
                removed = snapshot.holes[index].get(ordinal)
                position = segment.redacted(ordinal, removed).n_before(stored) if removed else stored
                places[row] = Place(self._name(snapshot, segment.name, ordinal), sentence, position)
        return [place for place in places if place is not None]

    def _name(self, snapshot: Snapshot, segment: str, ordinal: int) -> str:
        if (segment, ordinal) not in snapshot.names:
            query = select(tables.documents.c.id).where(
                tables.documents.c.segment == segment, tables.documents.c.ordinal == ordinal
            )
            with self.catalog.read() as connection:
                name = connection.execute(query).scalar_one_or_none()
            if name is None:
                if self.catalog.epoch() != snapshot.epoch:
                    raise _LayoutMoved
                raise CorruptDatastore(
                    f"segment {segment} holds a document {ordinal} that the catalog does not name. "
                    "Restore the store from a snapshot."
                )
            snapshot.names[segment, ordinal] = name
        return snapshot.names[segment, ordinal]


class _LayoutMoved(Exception):
    """The catalog names a segment that the snapshot does not have, or an entry went; never leaves this module."""


def _index_of(snapshot: Snapshot, segment: str) -> int:
    if segment not in snapshot.layout:
        raise _LayoutMoved
    return snapshot.layout.index(segment)
