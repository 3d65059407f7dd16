"""A segment: some documents, whole, in the order of ingestion, in files that never change.

Works on positions: position *p* is the *p*-th token of the segment. The entry at *p* has the
token at *p + 1* as its value; the last token of a document, its end, has no entry. Knows documents by
ordinal alone; their names are the catalog's business.

``tokens.npy``     ``(positions,)``
``documents.npy``  ``(documents + 1, 3)`` first position, first byte of text, first sentence; the last row is the end
``sentences.npy``  ``(sentences, 3)`` first position, then the character span in its document
``text.bin``       UTF-8, one document after another
``keys.faiss``     the ``keys`` view
``ngrams.npy``     the ``ngrams`` view
``passage*.npy``   the ``passages`` view
``segment.json``   size and SHA-256 of the others; its own SHA-256 is in the catalog
"""

import itertools
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from datastore import keys, ngrams, passages
from datastore.codecs import KeySpace
from datastore.errors import CorruptDatastore
from datastore.files import (
    TEMPORARY_PREFIX,
    canonical_json,
    check_files,
    checksums,
    load_array,
    publish_folder,
    read_json,
    save_array,
    sha256_file,
    write_bytes,
)
from datastore.passages import PassageSettings, PassagesView
from datastore.records import EncodedDocument
from datastore.views import LiveMask, View

FILE_NAME = "segment.json"


class Source(Protocol):
    """What ``copy_segment`` copies from: a segment, or one document of a backup."""

    name: str
    """One that no other source of the same copy has."""
    n_positions: int

    @property
    def keys(self) -> keys.Lists:
        """The entries of the ``keys`` view."""

    def span(self, ordinal: int) -> tuple[int, int]:
        """As ``Segment.span``."""

    def raw(self, ordinal: int) -> "Pieces":
        """As ``Segment.raw``."""


@dataclass(frozen=True)
class WrittenSegment:
    """What the catalog records of a segment."""

    name: str
    sha256: str
    """Of its ``segment.json``."""
    n_positions: int


class Segment:
    """The segment in ``folder``, checked against its checksums and memory-mapped.

    Raises:
        CorruptDatastore: a file is missing or is not what was written.
    """

    def __init__(self, folder: Path, sha256: str, space: KeySpace, passage_dimension: int = 0) -> None:
        self.name = folder.name
        listing = folder / FILE_NAME
        if not listing.is_file() or sha256_file(listing) != sha256:
            raise CorruptDatastore(
                f"{listing} should have SHA-256 {sha256}; it is missing or was changed. "
                "Restore the store from a snapshot."
            )
        check_files(folder, read_json(listing, "the list of a segment's files")["files"])
        self.tokens = load_array(folder / "tokens.npy")
        self._documents = load_array(folder / "documents.npy")
        self._sentences = load_array(folder / "sentences.npy")
        self._text = np.memmap(folder / "text.bin", mode="r") if self._documents[-1, 1] else np.empty(0, np.uint8)
        self.keys = keys.KeysView(folder / keys.FILE_NAME, space)
        self.ngrams = ngrams.NgramsView(folder / ngrams.FILE_NAME, self.tokens, self._documents[:-1, 0])
        self.passages = PassagesView(folder, len(self.tokens), passage_dimension)
        self.views: tuple[View, ...] = (self.keys, self.ngrams, self.passages)
        self.n_positions = len(self.tokens)
        self.n_documents = len(self._documents) - 1

    def n_live(self, mask: LiveMask) -> int:
        """How many entries may be served; the last token of a document has none."""
        ends = self._documents[1:, 0] - 1
        return int(np.count_nonzero(mask.flags) - np.count_nonzero(mask.flags[ends]))

    def span(self, ordinal: int) -> tuple[int, int]:
        """Half-open range of the document's positions, its end token included."""
        return int(self._documents[ordinal, 0]), int(self._documents[ordinal + 1, 0])

    def end_of(self, position: int) -> int:
        """One past the last position of the document that has ``position``."""
        return int(self._documents[np.searchsorted(self._documents[:, 0], position, side="right"), 0])

    def locate(self, positions: NDArray[np.int64]) -> list[tuple[int, int, int]]:
        """Of each entry: its document, the sentence in which its value begins, and its position in the document."""
        ordinals = np.searchsorted(self._documents[:, 0], positions, side="right") - 1
        sentences = np.searchsorted(self._sentences[:, 0], positions + 1, side="right") - 1
        firsts = self._documents[ordinals]
        triples = np.stack([ordinals, sentences - firsts[:, 2], positions - firsts[:, 0]], axis=1)
        return [(a, b, c) for a, b, c in triples.tolist()]

    def text(self, ordinal: int) -> str:
        """The document's text."""
        start, stop = self._documents[ordinal : ordinal + 2, 1]
        return self._text[start:stop].tobytes().decode("utf-8")

    def sentences(self, ordinal: int) -> NDArray[np.int64]:
        """``(s, 3)``: first position in the segment and character span in the document."""
        start, stop = self._documents[ordinal : ordinal + 2, 2]
        rows: NDArray[np.int64] = self._sentences[start:stop]
        return rows

    def passage(self, number: int) -> "SegmentPassage":
        """What the segment's passage ``number`` is."""
        first, stop, a, b, _ = self.passages.table[number].tolist()
        ordinal = int(np.searchsorted(self._documents[:, 0], first, side="right")) - 1
        rows = self.sentences(ordinal)
        of_document = number - self.first_passage(ordinal)
        return SegmentPassage(ordinal, of_document, (first, stop), (a, b), (int(rows[a, 1]), int(rows[b - 1, 2])))

    def first_passage(self, ordinal: int) -> int:
        """The segment's number of the first passage that is not before the document."""
        return int(np.searchsorted(self.passages.table[:, 0], self._documents[ordinal, 0]))

    def raw(self, ordinal: int) -> "Pieces":
        """The stored pieces of one document, for copying into another segment."""
        (a, byte_a, _), (b, byte_b, _) = self._documents[ordinal : ordinal + 2]
        sentences = self.sentences(ordinal) - np.array([a, 0, 0])
        return Pieces(self.tokens[a:b], self._text[byte_a:byte_b], sentences, self.passages.vectors(int(a), int(b)))


def write_segment(
    segments: Path,
    name: str,
    space: KeySpace,
    token_type: str,
    passage_settings: PassageSettings,
    documents: Sequence[EncodedDocument],
) -> WrittenSegment:
    """Write ``documents`` as the segment ``name`` of the folder ``segments``; whole or not at all."""
    pieces = [_pieces_of(document, token_type, passage_settings.dimension) for document in documents]
    starts = _starts(pieces)
    positions = [np.arange(a, a + len(d.keys), dtype=np.int64) for a, d in zip(starts, documents, strict=True)]
    stacked = np.concatenate([d.keys for d in documents])
    where = np.concatenate(positions or [np.empty(0, np.int64)])
    with _Draft(segments, name) as draft:
        keys.write_keys(draft.folder / keys.FILE_NAME, space, stacked, where)
        return draft.publish(pieces, token_type, passage_settings)


def copy_segment(
    segments: Path,
    name: str,
    space: KeySpace,
    token_type: str,
    passage_settings: PassageSettings,
    documents: Sequence[tuple[Source, int]],
) -> WrittenSegment:
    """As ``write_segment``, of documents that other segments hold, given as (segment, ordinal).

    Copies each inverted list in order, so that every file equals the one that ``write_segment`` makes.
    """
    pieces = [segment.raw(ordinal) for segment, ordinal in documents]
    moves: dict[str, tuple[Source, NDArray[np.int64]]] = {}
    for start, (segment, ordinal) in zip(_starts(pieces), documents, strict=True):
        _, new = moves.setdefault(segment.name, (segment, np.full(segment.n_positions, -1, dtype=np.int64)))
        a, b = segment.span(ordinal)
        new[a:b] = np.arange(start, start + b - a)
    with _Draft(segments, name) as draft:
        parts = [(segment.keys, new) for segment, new in moves.values()]
        keys.merge_keys(draft.folder / keys.FILE_NAME, space, parts)
        return draft.publish(pieces, token_type, passage_settings)


def cut(lengths: Sequence[int], max_positions: int) -> list[tuple[int, int]]:
    """Half-open ranges of documents, one per segment: as many whole documents as fit ``max_positions``.

    A function of the documents alone, so a store after compaction is cut as one that was built from scratch.
    """
    ranges: list[tuple[int, int]] = []
    start = filled = 0
    for i, length in enumerate(lengths):
        if i > start and filled + length > max_positions:
            ranges.append((start, i))
            start, filled = i, 0
        filled += length
    return [*ranges, (start, len(lengths))] if lengths else []


@dataclass(frozen=True)
class SegmentPassage:
    """Where a passage of a segment lies."""

    ordinal: int
    number: int
    """Index of the passage in its document."""
    entries: tuple[int, int]
    """Half-open range of positions in the segment."""
    sentences: tuple[int, int]
    """Half-open range of sentences of the document."""
    characters: tuple[int, int]
    """Half-open span of the document's text."""


@dataclass(frozen=True)
class Pieces:
    """One document's arrays, with positions counted from its own start."""

    tokens: NDArray[Any]
    text: NDArray[np.uint8]
    sentences: NDArray[np.int64]
    passage_vectors: NDArray[np.int16]


def _pieces_of(document: EncodedDocument, token_type: str, passage_dimension: int) -> Pieces:
    n_sentences = len(document.sentences)
    columns = [passages.first_tokens(document), document.sentences]
    vectors, whose = document.passage_vectors, f"document {document.facts.id!r}"
    return Pieces(
        document.tokens.astype(token_type),
        np.frombuffer(document.text.encode("utf-8"), np.uint8),
        np.column_stack(columns).astype(np.int64).reshape(n_sentences, 3),
        np.empty((0, 0), np.int16) if vectors is None else passages.vector_codes(vectors, passage_dimension, whose),
    )


def _starts(pieces: Sequence[Pieces]) -> list[int]:
    """First position of each document and, last, the number of positions."""
    return list(itertools.accumulate((len(p.tokens) for p in pieces), initial=0))[: len(pieces)]


class _Draft:
    """A segment under a temporary name; it vanishes unless it is published."""

    def __init__(self, segments: Path, name: str) -> None:
        self._final = segments / name
        self.folder = segments / f"{TEMPORARY_PREFIX}{name}"

    def __enter__(self) -> "_Draft":
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def publish(self, pieces: Sequence[Pieces], token_type: str, passage_settings: PassageSettings) -> WrittenSegment:
        """Write the files that all segments share, list them, and rename the folder."""
        table = np.zeros((len(pieces) + 1, 3), dtype=np.int64)
        table[1:] = np.cumsum([(len(p.tokens), len(p.text), len(p.sentences)) for p in pieces], axis=0).reshape(-1, 3)
        shifted = [p.sentences + np.array([start, 0, 0]) for p, start in zip(pieces, table[:, 0], strict=False)]
        tokens = np.concatenate([p.tokens for p in pieces] or [np.empty(0)]).astype(token_type)
        arrays = {
            "tokens.npy": tokens,
            "documents.npy": table,
            "sentences.npy": np.concatenate(shifted or [np.empty((0, 3))]).astype(np.int64),
            ngrams.FILE_NAME: ngrams.entry_order(tokens, table[:-1, 0]),
        }
        texts = (
            (int(start), len(p.tokens) - 1, p.sentences, p.text.tobytes().decode("utf-8"))
            for p, start in zip(pieces, table[:, 0], strict=False)
        )
        arrays |= passages.index_passages(texts, passage_settings.max_tokens)
        if dimension := passage_settings.dimension:
            codes = [np.empty((0, dimension), np.int16), *(p.passage_vectors for p in pieces)]
            arrays[passages.VECTORS] = np.concatenate(codes)
        for name, array in arrays.items():
            save_array(self.folder / name, array)
        with (self.folder / "text.bin").open("wb") as file:
            file.writelines(p.text.tobytes() for p in pieces)
        listing = canonical_json({"format": 1, "files": checksums(self.folder)})
        write_bytes(self.folder / FILE_NAME, listing)
        sha256 = sha256_file(self.folder / FILE_NAME)
        publish_folder(self.folder, self._final)
        return WrittenSegment(self._final.name, sha256, int(table[-1, 0]))
