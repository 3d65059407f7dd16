"""A segment: some documents, whole, in the order of ingestion, in files that never change.

Works on positions: position *p* is the *p*-th token of the segment. The entry at *p* has the
token at *p + 1* as its value; the last token of a document, its end, has no entry. Knows documents by
ordinal alone; their names are the catalog's business.

``tokens.npy``     ``(positions,)``
``documents.npy``  ``(documents + 1, 3)`` first position, first byte of text, first sentence; the last row is the end
``sentences.npy``  ``(sentences, 3)`` first position, then the character span in its document
``breaks.npy``     ``(breaks,)`` positions behind a hole in a document, where a run begins: see ``redaction``
``text.bin``       UTF-8, one document after another
``keys.faiss``     the ``keys`` view
``ngrams.npy``     the ``ngrams`` view
``passage*.npy``   the ``passages`` view
``segment.json``   size and SHA-256 of the others; its own SHA-256 is in the catalog
"""

import itertools
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
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
from datastore.redaction import Ranges, Redacted, lies_in, passages_left, redact, without_spans
from datastore.views import LiveMask, View

FILE_NAME = "segment.json"
_NO_HOLES: Mapping[int, Ranges] = MappingProxyType({})


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
        self._breaks = load_array(folder / "breaks.npy")
        self.run_starts = _run_starts(self._documents[:-1, 0], self._breaks)
        self._text = np.memmap(folder / "text.bin", mode="r") if self._documents[-1, 1] else np.empty(0, np.uint8)
        self.keys = keys.KeysView(folder / keys.FILE_NAME, space)
        self.ngrams = ngrams.NgramsView(folder / ngrams.FILE_NAME, self.tokens, self.run_starts)
        self.passages = PassagesView(folder, len(self.tokens), passage_dimension, self._breaks)
        self.views: tuple[View, ...] = (self.keys, self.ngrams, self.passages)
        self.n_positions = len(self.tokens)
        self.n_documents = len(self._documents) - 1

    def n_live(self, mask: LiveMask) -> int:
        """How many entries may be served; the last token of a run has none."""
        ends = np.append(self.run_starts, self.n_positions)[1:] - 1
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

    def place_of_byte(self, offset: int) -> tuple[int, int]:
        """The document whose text has the byte at ``offset`` of ``text.bin``, and the character that it belongs to."""
        ordinal = int(np.searchsorted(self._documents[:, 1], offset, side="right")) - 1
        start = self._documents[ordinal, 1]
        # Bytes that go on with a character begin with the bits 10.
        return ordinal, int(((self._text[start : offset + 1] & 0xC0) != 0x80).sum()) - 1

    @property
    def n_entries(self) -> int:
        """How many entries every view should hold."""
        return self.n_positions - len(self.run_starts)

    def sentences(self, ordinal: int) -> NDArray[np.int64]:
        """``(s, 3)``: first position in the segment and character span in the document."""
        start, stop = self._documents[ordinal : ordinal + 2, 2]
        rows: NDArray[np.int64] = self._sentences[start:stop]
        return rows

    def passage(self, number: int, holes: Mapping[int, Ranges] = _NO_HOLES) -> "SegmentPassage":
        """What the segment's passage ``number`` is, which is not an empty one.

        ``holes`` are removed sentences by ordinal: characters are counted without those of its document.
        """
        first, stop, a, b, _ = self.passages.table[number].tolist()
        ordinal = int(np.searchsorted(self._documents[:, 0], first, side="right")) - 1
        rows = self.sentences(ordinal)
        of_document = number - self.first_passage(ordinal)
        gone = rows[:a][lies_in(np.arange(a), holes.get(ordinal, ()))]
        n_gone = int((gone[:, 2] - gone[:, 1]).sum())
        characters = int(rows[a, 1]) - n_gone, int(rows[b - 1, 2]) - n_gone
        return SegmentPassage(ordinal, of_document, (first, stop), (a, b), characters)

    def first_passage(self, ordinal: int) -> int:
        """The segment's number of the first passage that is not before the document."""
        return int(np.searchsorted(self.passages.table[:, 0], self._documents[ordinal, 0]))

    def redacted(self, ordinal: int, removed: Ranges = ()) -> Redacted:
        """What a removal of sentences means for the document's tokens, counted from its own start."""
        start, stop = self.span(ordinal)
        return _redacted(stop - start, self.sentences(ordinal)[:, 0] - start, self._breaks_in(start, stop), removed)

    def hide(self, ordinal: int, removed: Ranges, mask: LiveMask) -> None:
        """Take the sentences in ``removed`` of a document out of service."""
        start, _ = self.span(ordinal)
        before, left = self.redacted(ordinal), self.redacted(ordinal, removed)
        for first, last in left.holes():
            mask.clear(start + first, start + last)
        for last in np.flatnonzero(before.is_entry & ~left.is_entry & left.is_kept).tolist():
            mask.clear_entries(start + last, start + last + 1)

    def raw(self, ordinal: int) -> "Pieces":
        """The stored pieces of one document, for copying into another segment."""
        (a, byte_a, _), (b, byte_b, _) = self._documents[ordinal : ordinal + 2]
        sentences = self.sentences(ordinal) - np.array([a, 0, 0])
        ranges, vectors = self.passages.of(int(a), int(b))
        breaks = self._breaks_in(int(a), int(b))
        return Pieces(self.tokens[a:b], self._text[byte_a:byte_b], sentences, breaks, ranges, vectors)

    def _breaks_in(self, start: int, stop: int) -> NDArray[np.int64]:
        """The breaks of the document at ``[start, stop)``, counted from its own start."""
        return self._breaks[slice(*np.searchsorted(self._breaks, [start, stop]))] - start


def write_segment(
    segments: Path,
    name: str,
    space: KeySpace,
    token_type: str,
    passage_settings: PassageSettings,
    documents: Sequence[EncodedDocument],
) -> WrittenSegment:
    """Write ``documents`` as the segment ``name`` of the folder ``segments``; whole or not at all."""
    pieces = [_pieces_of(document, token_type, passage_settings) for document in documents]
    starts = _starts(pieces)
    positions = [a + d.entries for a, d in zip(starts, documents, strict=True)]
    stacked = np.concatenate([d.keys for d in documents])
    where = np.concatenate(positions or [np.empty(0, np.int64)])
    with _Draft(segments, name) as draft:
        keys.write_keys(draft.folder / keys.FILE_NAME, space, stacked, where)
        return draft.publish(pieces, token_type, passage_settings)


@dataclass(frozen=True)
class Part:
    """A document that is held elsewhere, less the sentences that are not to be copied."""

    source: Source
    ordinal: int
    removed: Ranges = ()


def copy_segment(
    segments: Path,
    name: str,
    space: KeySpace,
    token_type: str,
    passage_settings: PassageSettings,
    documents: Sequence[Part],
) -> WrittenSegment:
    """As ``write_segment``, of documents that other segments or a backup hold.

    Copies each inverted list in order, so that every file equals the one that ``write_segment`` makes of
    ``redaction.without_sentences`` of each document.
    """
    wholes = [part.source.raw(part.ordinal) for part in documents]
    lefts = [whole.redacted(part.removed) for whole, part in zip(wholes, documents, strict=True)]
    pieces = [whole.without(part.removed) for whole, part in zip(wholes, documents, strict=True)]
    moves: dict[str, tuple[Source, NDArray[np.int64]]] = {}
    for start, part, left in zip(_starts(pieces), documents, lefts, strict=True):
        source = part.source
        _, new = moves.setdefault(source.name, (source, np.full(source.n_positions, -1, dtype=np.int64)))
        a, b = source.span(part.ordinal)
        new[a:b] = left.moved(start)
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
    breaks: NDArray[np.int64]
    """As in ``EncodedDocument``."""
    passages: NDArray[np.int64]
    """``(p, 2)``: as in ``EncodedDocument``."""
    passage_vectors: NDArray[np.int16]
    """``(p, e)``; zeros where the passage is empty."""

    @property
    def string(self) -> str:
        """The text."""
        return self.text.tobytes().decode("utf-8")

    def sentence_texts(self, ranges: Iterable[tuple[int, int]]) -> list[str]:
        """The text of each of ``ranges`` of sentences."""
        rows, text = self.sentences, self.string
        return [text[rows[first, 1] : rows[last - 1, 2]] for first, last in ranges]

    def redacted(self, removed: Ranges) -> Redacted:
        """What a removal of sentences means for its tokens."""
        return _redacted(len(self.tokens), self.sentences[:, 0], self.breaks, removed)

    def without(self, removed: Ranges) -> "Pieces":
        """The pieces of ``redaction.without_sentences`` of the document."""
        if not removed:
            return self
        left = self.redacted(removed)
        text, spans = without_spans(self.string, self.sentences[:, 1:], removed)
        firsts = np.concatenate([[0], np.cumsum(left.is_kept)])[self.sentences[:, 0]]
        ranges = passages_left(self.passages, removed)
        is_left = ranges[:, 1] > ranges[:, 0]
        return Pieces(
            self.tokens[left.is_kept],
            np.frombuffer(text.encode("utf-8"), np.uint8),
            np.column_stack([firsts, spans]),
            left.run_starts[1:],
            ranges,
            np.where(is_left[:, None], self.passage_vectors, np.int16(0)),
        )


def _redacted(n_tokens: int, firsts: NDArray[np.int64], breaks: NDArray[np.int64], removed: Ranges) -> Redacted:
    """``redact`` of a document of ``n_tokens`` whose sentences begin at the tokens ``firsts``."""
    return redact(np.searchsorted(firsts, np.arange(n_tokens), side="right") - 1, breaks, removed)


def _pieces_of(document: EncodedDocument, token_type: str, settings: PassageSettings) -> Pieces:
    n_sentences = len(document.sentences)
    columns = [passages.first_tokens(document), document.sentences]
    return Pieces(
        document.tokens.astype(token_type),
        np.frombuffer(document.text.encode("utf-8"), np.uint8),
        np.column_stack(columns).astype(np.int64).reshape(n_sentences, 3),
        np.asarray(document.breaks, dtype=np.int64),
        passages.ranges_of(document, settings.max_tokens),
        passages.codes_of(document, settings),
    )


def _starts(pieces: Sequence[Pieces]) -> list[int]:
    """First position of each document and, last, the number of positions."""
    return list(itertools.accumulate((len(p.tokens) for p in pieces), initial=0))[: len(pieces)]


def _run_starts(starts: NDArray[np.int64], breaks: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where runs begin: with each document, and behind each hole."""
    return np.sort(np.concatenate([starts, breaks]))


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
        holes = [p.breaks + start for p, start in zip(pieces, table[:, 0], strict=False)]
        breaks = np.concatenate(holes or [np.empty(0)]).astype(np.int64)
        arrays = {
            "tokens.npy": tokens,
            "documents.npy": table,
            "sentences.npy": np.concatenate(shifted or [np.empty((0, 3))]).astype(np.int64),
            "breaks.npy": breaks,
            ngrams.FILE_NAME: ngrams.entry_order(tokens, _run_starts(table[:-1, 0], breaks)),
        }
        texts = (
            (int(start), len(p.tokens) - 1, p.sentences, p.passages, p.text.tobytes().decode("utf-8"))
            for p, start in zip(pieces, table[:, 0], strict=False)
        )
        arrays |= passages.index_passages(texts)
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
