"""The ``passages`` view: runs of whole sentences, their words and, where the store has them, their unit vectors.

A passage is a run of whole sentences of one document, as many as fit a number of tokens that the manifest fixes; a
longer sentence is a passage alone. So it depends on its own document only. **A passage is live only if all of its
tokens are**: where single sentences leave a document that stays, the passages with one of them leave too, and those
that stay keep their bounds and numbers (``redaction``).

``passages.npy``          ``(passages, 5)`` int64: first entry and the end of its entries, first sentence in its
                          document and the end of its sentences, number of words; a passage that left is empty
``passage-terms.npy``     ``(terms,)`` int64, sorted: 64-bit hashes of the words that occur, normalized as
                          fingerprints are
``passage-bounds.npy``    ``(terms + 1,)`` int64: where each term's postings begin
``passage-postings.npy``  ``(2, postings)`` int32: passages with the term, increasing, and how many times each has it
``passage-vectors.npy``   ``(passages, e)`` int16, where the manifest names an encoder: unit vectors times 2,048

The files are a function of the segment's text, sentences and vectors. Nothing is stored that a removal would have to
subtract: how many live passages there are, how long, and how many have a word, is counted when it is asked.

Why whole numbers for vectors: any sum of products of two of them stays below 2^24, where float32 is exact. So the
product with a matrix gives the same bits whatever the order of summation, the batch, and the rows beside. Float32
vectors have no such promise. The scale is a constant; a fitted one would keep a trace of its text.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datastore.errors import BadArrays, CorruptDatastore
from datastore.files import load_array
from datastore.fingerprints import hashes, words
from datastore.records import EncodedDocument
from datastore.views import LiveMask

FILE_NAME = "passages.npy"
TERMS, BOUNDS, POSTINGS = "passage-terms.npy", "passage-bounds.npy", "passage-postings.npy"
VECTORS = "passage-vectors.npy"
DEFAULT_TOKENS = 128
SCALE = 2048
"""What the whole number for 1 is, in stored vectors."""
_UNIT_TOLERANCE = 1e-3
_NO_BREAKS = np.empty(0, np.int64)
_ROWS = 1024
"""Vectors that are turned into float32 at a time, so that they stay in the processor's cache."""


@dataclass(frozen=True)
class PassageSettings:
    """How a store cuts passages and what it keeps of each; fixed when the store is made."""

    max_tokens: int = DEFAULT_TOKENS
    encoder: str = ""
    """Fingerprint of what made the vectors; empty where there are none."""
    encoder_name: str = ""
    dimension: int = 0
    """Of a vector; 0 where there are none."""

    def __post_init__(self) -> None:
        if self.max_tokens < 1 or self.dimension < 0:
            raise BadArrays(
                f"passages have at least 1 token and vectors no negative dimension; got {self.max_tokens} tokens, "
                f"{self.dimension} dimensions"
            )
        if bool(self.encoder) != bool(self.dimension):
            raise BadArrays(
                "a store with passage vectors names their encoder and their dimension, one without them neither; "
                f"got encoder {self.encoder!r}, dimension {self.dimension}"
            )


def cut_passages(firsts: NDArray[np.int64], n_tokens: int, max_tokens: int) -> list[tuple[int, int]]:
    """Half-open ranges of sentences, one per passage; the document's sentences begin at tokens ``firsts`` ``(s,)``.

    A sentence in which no token begins goes with the one before it. A document without tokens has no passages.
    """
    ranges: list[tuple[int, int]] = []
    start = filled = 0
    for i, length in enumerate(np.diff(np.append(np.minimum(firsts, n_tokens), n_tokens)).tolist()):
        if filled and length and filled + length > max_tokens:
            ranges.append((start, i))
            start, filled = i, 0
        filled += length
    return [*ranges, (start, len(firsts))] if n_tokens and len(firsts) else []


def ranges_of(document: EncodedDocument, max_tokens: int) -> NDArray[np.int64]:
    """``(p, 2)``: the passages of ``document``, as ``EncodedDocument.passages`` has or would have them."""
    if document.passages is not None:
        return document.passages
    ranges = cut_passages(first_tokens(document), len(document.tokens) - 1, max_tokens)
    return np.array(ranges, dtype=np.int64).reshape(-1, 2)


def passage_texts(document: EncodedDocument, max_tokens: int) -> list[str]:
    """The texts of the passages that a store will cut ``document`` into: what a passage encoder is to encode."""
    spans = document.sentences
    ranges = ranges_of(document, max_tokens).tolist()
    return [document.text[spans[a, 0] : spans[b - 1, 1]] if a < b else "" for a, b in ranges]


def first_tokens(document: EncodedDocument) -> NDArray[np.int64]:
    """``(s,)``: the first token that begins in each sentence, or after it where none does."""
    sentences = np.arange(len(document.sentences))
    return np.searchsorted(document.token_sentences, sentences, side="left").astype(np.int64)


def vector_codes(vectors: NDArray[np.floating], dimension: int, whose: str) -> NDArray[np.int16]:
    """Unit ``vectors`` ``(n, e)`` as the whole numbers that are stored and compared. ``whose`` is for the message.

    Raises:
        BadArrays: they are not of ``dimension`` dimensions, not finite, or not of length 1.
    """
    if vectors.ndim != 2 or vectors.shape[1] != dimension:
        raise BadArrays(f"{whose}: passage vectors must be (n, {dimension}); got shape {vectors.shape}")
    lengths = np.sqrt((vectors.astype(np.float64) ** 2).sum(axis=1))
    if not (np.abs(lengths - 1) <= _UNIT_TOLERANCE).all():
        raise BadArrays(f"{whose}: passage vectors must be finite and of length 1; got lengths {lengths[:5]}")
    return np.rint(vectors.astype(np.float64) * SCALE).astype(np.int16)


def codes_of(document: EncodedDocument, settings: PassageSettings) -> NDArray[np.int16]:
    """``(p, e)``: the vectors of the passages of ``document`` as they are stored, zeros for an empty passage.

    Raises:
        BadArrays: the document brings vectors that the store does not keep, or not one of length 1 for each passage.
    """
    vectors, whose = document.passage_vectors, f"document {document.facts.id!r}"
    if not settings.dimension:
        if vectors is not None:
            raise BadArrays(f"{whose}: it brings passage vectors, and this store was made to have none; leave them out")
        return np.empty((0, 0), np.int16)
    ranges = ranges_of(document, settings.max_tokens)
    if vectors is None or len(vectors) != len(ranges):
        raise BadArrays(
            f"{whose}: this store keeps a vector of each passage, made by {settings.encoder_name!r}; expected "
            f"{len(ranges)}, got {'none' if vectors is None else len(vectors)}. Encode `passages.passage_texts`."
        )
    is_there = ranges[:, 1] > ranges[:, 0]
    codes = np.zeros((len(ranges), settings.dimension), np.int16)
    codes[is_there] = vector_codes(vectors[is_there], settings.dimension, whose)
    return codes


def index_passages(
    documents: Iterable[tuple[int, int, NDArray[np.int64], NDArray[np.int64], str]],
) -> dict[str, NDArray[Any]]:
    """The arrays of a segment's passages but for their vectors, by file name.

    Each of ``documents`` is its first position in the segment, its number of tokens without the end of text, its
    ``(s, 3)`` sentences (first position in the document, character span), its ``(p, 2)`` passages and its text.
    """
    hashed = _Hashed()
    table: list[tuple[int, int, int, int, int]] = []
    terms: list[int] = []
    frequencies: list[int] = []
    n_terms: list[int] = []
    for start, n_tokens, sentences, ranges, text in documents:
        for a, b in ranges.tolist():
            first = int(sentences[a, 0])
            stop = first if a == b else n_tokens if b == len(sentences) else min(int(sentences[b, 0]), n_tokens)
            said = "" if a == b else text[sentences[a, 1] : sentences[b - 1, 2]]
            found = Counter(map(hashed.__getitem__, words(said)))
            table.append((start + first, start + stop, a, b, found.total()))
            terms.extend(found.keys())
            frequencies.extend(found.values())
            n_terms.append(len(found))
    of = np.array(terms, dtype=np.int64)
    order = np.argsort(of, kind="stable")  # passages stay in order within each term
    distinct, counts = np.unique(of, return_counts=True)
    passages = np.repeat(np.arange(len(table)), n_terms)
    postings = np.stack([passages, np.array(frequencies, dtype=np.int64)])[:, order]
    return {
        FILE_NAME: np.array(table, dtype=np.int64).reshape(-1, 5),
        TERMS: distinct,
        BOUNDS: np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        POSTINGS: np.ascontiguousarray(postings, dtype=np.int32),
    }


class PassagesView:
    """The passages in ``folder``, memory-mapped and never written. Their SHA-256 must have been checked before.

    ``dimension`` is that of a vector, 0 where the store has none. ``breaks`` are the positions that begin a run behind
    a hole (``redaction``); there is no entry before them.

    Raises:
        CorruptDatastore: the arrays are not of the shapes and types above, or do not fit each other.
    """

    def __init__(self, folder: Path, n_positions: int, dimension: int, breaks: NDArray[np.int64] = _NO_BREAKS) -> None:
        self._breaks = breaks
        self.table: NDArray[np.int64] = np.asarray(load_array(folder / FILE_NAME))
        self._terms: NDArray[np.int64] = np.asarray(load_array(folder / TERMS))
        self._bounds: NDArray[np.int64] = np.asarray(load_array(folder / BOUNDS))
        self._postings: NDArray[np.int32] = np.asarray(load_array(folder / POSTINGS))
        self.n_passages = n = len(self.table)
        self._vectors = np.asarray(load_array(folder / VECTORS)) if dimension else np.empty((n, 0), np.int16)
        expected: list[tuple[NDArray[Any], type, tuple[int, ...]]] = [
            (self.table, np.int64, (n, 5)),
            (self._terms, np.int64, (len(self._terms),)),
            (self._bounds, np.int64, (len(self._terms) + 1,)),
            (self._postings, np.int32, (2, int(self._bounds[-1]) if len(self._bounds) else 0)),
            (self._vectors, np.int16, (n, dimension)),
        ]
        if any(a.dtype != of or a.shape != shape for a, of, shape in expected) or (
            n and not 0 <= self.table[0, 0] <= self.table[-1, 1] <= n_positions
        ):
            found = ", ".join(f"{a.shape} {a.dtype}" for a, _, _ in expected)
            raise CorruptDatastore(f"the passages in {folder} do not fit a segment of {n_positions} positions: {found}")
        self._known: tuple[LiveMask, int, Living] | None = None

    def living(self, live: LiveMask) -> "Living":
        """What of the view may be served under ``live``; counted anew when the mask has changed."""
        version = live.version  # read first: a change in between only makes it be counted again
        if self._known is None or self._known[0] is not live or self._known[1] != version:
            n_dead = np.concatenate([[0], np.cumsum(~live.tokens)])
            firsts, stops = self.table[:, 0], self.table[:, 1]
            flags = (firsts < stops) & (n_dead[firsts] == n_dead[stops])
            self._known = live, version, Living(flags, int(flags.sum()), int(self.table[flags, 4].sum()))
        return self._known[2]

    def postings(self, term: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """The passages with the word of that hash, dead ones too, increasing; and how many times each has it."""
        i = int(np.searchsorted(self._terms, term))
        is_there = i < len(self._terms) and self._terms[i] == term
        here = slice(self._bounds[i], self._bounds[i + 1]) if is_there else slice(0, 0)
        return self._postings[0, here], self._postings[1, here]

    def products(self, codes: NDArray[np.int16]) -> NDArray[np.float32]:
        """``(passages,)``: the product of every vector with ``codes`` ``(e,)``, exact whole numbers."""
        query = codes.astype(np.float32)
        found = np.empty(self.n_passages, np.float32)
        rows = np.empty((min(_ROWS, self.n_passages), len(codes)), np.float32)
        for start in range(0, self.n_passages, _ROWS):
            part = self._vectors[start : start + _ROWS]
            rows[: len(part)] = part
            np.dot(rows[: len(part)], query, out=found[start : start + len(part)])
        return found

    def of(self, start: int, stop: int) -> tuple[NDArray[np.int64], NDArray[np.int16]]:
        """Ranges of sentences ``(n, 2)`` and stored vectors ``(n, e)`` of the passages of the document at the positions
        ``[start, stop)``, for copying.
        """
        here = slice(*np.searchsorted(self.table[:, 0], [start, stop]))
        return self.table[here, 2:4], self._vectors[here]

    def holds(self, start: int, stop: int) -> int:
        """As ``View.holds``: the entries in the range whose passage is in the files."""
        firsts = np.maximum(self.table[:, 0], start)
        stops = np.maximum(np.minimum(self.table[:, 1], stop), firsts)
        ends = np.searchsorted(self._breaks - 1, np.stack([firsts, stops]))
        return int((stops - firsts - (ends[1] - ends[0])).sum())


@dataclass(frozen=True)
class Living:
    """The live passages of a view."""

    flags: NDArray[np.bool_]
    """``(passages,)``."""
    n_passages: int
    n_words: int
    """Of all of them together."""


class _Hashed(dict[str, int]):
    """Words to their hashes, each worked out once."""

    def __missing__(self, word: str) -> int:
        self[word] = value = int(hashes([word])[0])
        return value
