"""Writing segments: of documents that are new, or of what other segments and backups hold; whole or not at all.

What the files are is told in ``segments``. A copy equals, byte for byte, what is written of the same documents anew.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from datastore import keys, ngrams, passages
from datastore.codecs import KeySpace
from datastore.files import (
    TEMPORARY_PREFIX,
    canonical_json,
    checksums,
    publish_folder,
    save_array,
    sha256_file,
    write_bytes,
)
from datastore.passages import PassageSettings
from datastore.pieces import Pieces, first_positions, pieces_of, run_starts
from datastore.records import EncodedDocument
from datastore.redaction import Ranges
from datastore.segments import FILE_NAME


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

    def raw(self, ordinal: int) -> Pieces:
        """As ``Segment.raw``."""


@dataclass(frozen=True)
class WrittenSegment:
    """What the catalog records of a segment."""

    name: str
    sha256: str
    """Of its ``segment.json``."""
    n_positions: int


def write_segment(
    segments: Path,
    name: str,
    space: KeySpace,
    token_type: str,
    passage_settings: PassageSettings,
    documents: Sequence[EncodedDocument],
) -> WrittenSegment:
    """Write ``documents`` as the segment ``name`` of the folder ``segments``; whole or not at all."""
    pieces = [pieces_of(document, token_type, passage_settings) for document in documents]
    starts = first_positions(pieces)
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
    for start, part, left in zip(first_positions(pieces), documents, lefts, strict=True):
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
            ngrams.FILE_NAME: ngrams.entry_order(tokens, run_starts(table[:-1, 0], breaks)),
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
