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

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from datastore import keys, ngrams
from datastore.codecs import KeySpace
from datastore.errors import CorruptDatastore
from datastore.files import check_files, load_array, read_json, sha256_file
from datastore.passages import PassagesView
from datastore.pieces import Pieces, redacted, run_starts
from datastore.redaction import Ranges, Redacted, lies_in
from datastore.views import LiveMask, View

FILE_NAME = "segment.json"
_NO_HOLES: Mapping[int, Ranges] = MappingProxyType({})


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
        self.run_starts = run_starts(self._documents[:-1, 0], self._breaks)
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

    def passage(self, number: int, holes: Mapping[int, Ranges] = _NO_HOLES) -> SegmentPassage:
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
        return redacted(stop - start, self.sentences(ordinal)[:, 0] - start, self._breaks_in(start, stop), removed)

    def hide(self, ordinal: int, removed: Ranges, mask: LiveMask) -> None:
        """Take the sentences in ``removed`` of a document out of service."""
        start, _ = self.span(ordinal)
        before, left = self.redacted(ordinal), self.redacted(ordinal, removed)
        for first, last in left.holes():
            mask.clear(start + first, start + last)
        for last in np.flatnonzero(before.is_entry & ~left.is_entry & left.is_kept).tolist():
            mask.clear_entries(start + last, start + last + 1)

    def raw(self, ordinal: int) -> Pieces:
        """The stored pieces of one document, for copying into another segment."""
        (a, byte_a, _), (b, byte_b, _) = self._documents[ordinal : ordinal + 2]
        sentences = self.sentences(ordinal) - np.array([a, 0, 0])
        ranges, vectors = self.passages.of(int(a), int(b))
        breaks = self._breaks_in(int(a), int(b))
        return Pieces(self.tokens[a:b], self._text[byte_a:byte_b], sentences, breaks, ranges, vectors)

    def _breaks_in(self, start: int, stop: int) -> NDArray[np.int64]:
        """The breaks of the document at ``[start, stop)``, counted from its own start."""
        return self._breaks[slice(*np.searchsorted(self._breaks, [start, stop]))] - start
