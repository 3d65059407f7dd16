"""The plain facts that cross the wall into the datastore and out of it.

Frozen dataclasses and numpy arrays, nothing else. Shapes: ``n`` tokens of text in a document,
``s`` sentences, ``d`` dimensions of a key, ``q`` queries or contexts, ``k`` neighbors.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from datastore.errors import BadArrays


def is_text(text: str) -> bool:
    """Whether ``text`` is whole characters. Half of one, as bytes that are no UTF-8 leave behind, cannot be stored."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


@dataclass(frozen=True)
class DocumentFacts:
    """What is known about a document besides its text."""

    id: str
    digest: str
    """SHA-256, in hex, of the normalized text."""
    license: str = ""
    risk: str = "HIGH_RISK"
    source: str = ""
    title: str = ""
    owner: str = ""
    url: str = ""
    metadata: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "metadata", MappingProxyType(dict(self.metadata)))


@dataclass(frozen=True)
class EncodedDocument:
    """One document as the encoder sees it: what ``add`` takes.

    Entry *i* has ``keys[i]``, the LM's context vector after token *i*, and the value
    ``tokens[i + 1]``. The last token is the end of text, which is a value and never a key. Where sentences were taken
    out (``redaction``) the tokens fall into runs, and the last of each has no entry either.
    """

    facts: DocumentFacts
    text: str
    tokens: NDArray[np.integer]
    """``(n + 1,)``: the text's tokens and then the end-of-text token."""
    keys: NDArray[np.floating]
    """``(n, d)``; where the document has breaks, one for each entry."""
    sentences: NDArray[np.integer]
    """``(s, 2)``: half-open character spans that cover the text."""
    token_sentences: NDArray[np.integer]
    """``(n + 1,)``: the sentence in which each token begins, nondecreasing; the end of text has the last one."""
    passage_vectors: NDArray[np.floating] | None = None
    """``(p, e)``: a unit vector of each of ``passages.passage_texts``, where the store's manifest names an encoder."""
    passages: NDArray[np.int64] | None = None
    """``(p, 2)``: half-open ranges of sentences, in order, empty for a passage that lost one; None, unless sentences
    were taken out, says that they are as ``passages.cut_passages`` cuts them."""
    breaks: NDArray[np.integer] = field(default_factory=lambda: np.empty(0, np.int64))
    """``(b,)``: indices of the tokens that begin a run, without the first; none unless sentences were taken out."""

    def __post_init__(self) -> None:
        n = len(self.tokens) - 1
        if n < 0 or self.tokens.ndim != 1:
            raise BadArrays(f"document {self.facts.id!r}: tokens must be (n + 1,); got shape {self.tokens.shape}")
        if not np.issubdtype(self.tokens.dtype, np.integer):
            raise BadArrays(f"document {self.facts.id!r}: tokens must be whole numbers; got {self.tokens.dtype}")
        if not is_text(self.facts.id + self.text):
            raise BadArrays(f"document {self.facts.id!r}: its id or text has half a character, which is no UTF-8")
        if not (np.diff(np.concatenate([[0], self.breaks, [n + 1]])) > 0).all():
            raise BadArrays(f"document {self.facts.id!r}: breaks must increase and lie from 1 to {n}")
        e = n - len(self.breaks)
        if self.keys.ndim != 2 or len(self.keys) != e:
            raise BadArrays(f"document {self.facts.id!r}: keys must be ({e}, d); got shape {self.keys.shape}")
        if not np.isfinite(self.keys).all():
            raise BadArrays(f"document {self.facts.id!r}: keys have NaN or infinite values")
        if self.sentences.ndim != 2 or self.sentences.shape[1:] != (2,):
            raise BadArrays(f"document {self.facts.id!r}: sentences must be (s, 2); got {self.sentences.shape}")
        if len(self.sentences) and not (self.sentences.min() >= 0 and self.sentences.max() <= len(self.text)):
            raise BadArrays(f"document {self.facts.id!r}: sentences must lie in its {len(self.text)} characters")
        marks = self.token_sentences
        if marks.shape != (n + 1,) or (n and (marks.min() < 0 or marks.max() >= len(self.sentences))):
            raise BadArrays(f"document {self.facts.id!r}: token_sentences must be ({n + 1},) indices of sentences")
        if (np.diff(marks.astype(np.int64)) < 0).any():
            raise BadArrays(f"document {self.facts.id!r}: token_sentences must not decrease")

    @property
    def entries(self) -> NDArray[np.int64]:
        """Indices of the tokens that are the key of an entry."""
        return np.delete(np.arange(len(self.tokens) - 1), self.breaks.astype(np.int64) - 1)


@dataclass(frozen=True)
class Neighbors:
    """The nearest live entries of each query, in the order (squared distance, entry id).

    Where fewer than ``k`` live entries were found the rest of the row has entry -1,
    value -1 and an infinite distance.
    """

    squared_distances: NDArray[np.float32]
    """``(q, k)``, squared L2 as FAISS gives it."""
    entries: NDArray[np.int64]
    """``(q, k)``, ids in this version of the store; they follow the order of ingestion."""
    values: NDArray[np.int64]
    """``(q, k)``, the token that followed."""
    epoch: int
    """The state of the store that answered."""


@dataclass(frozen=True)
class Continuations:
    """What followed the last tokens of each context in live documents, at each of ``m`` limits to their number.

    An occurrence lies within one document and has one token after it, so the counts of the
    tokens add up to the count of occurrences. Where not even the last token occurs, length and count are 0.
    """

    lengths: NDArray[np.int64]
    """``(q, m)``: how many of the context's last tokens occur in a row, at most the limit."""
    counts: NDArray[np.int64]
    """``(q, m)``: how many times they occur."""
    bounds: NDArray[np.int64]
    """``(q * m + 1,)``: where in the two arrays below each pair of context and limit begins; the last is their end."""
    tokens: NDArray[np.int64]
    """``(t,)``: the tokens that followed, increasing for each pair."""
    token_counts: NDArray[np.int64]
    """``(t,)``: how many times each did."""
    epoch: int
    """The state of the store that answered."""

    def following(self, context: int, limit: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Tokens and counts for one context and one limit, both by index."""
        pair = context * self.lengths.shape[1] + limit
        here = slice(self.bounds[pair], self.bounds[pair + 1])
        return self.tokens[here], self.token_counts[here]


@dataclass(frozen=True)
class Occurrences:
    """Where a sequence of tokens occurs in live documents."""

    count: int
    """All occurrences, those left out of ``entries`` too."""
    entries: NDArray[np.int64]
    """Ids of the entries at the sequence's last token, the lowest ones, increasing."""
    epoch: int
    """The state of the store that answered."""


@dataclass(frozen=True)
class Passages:
    """The best live passages for a question, ``n`` of them, in the order (score falling, order of ingestion)."""

    documents: tuple[str, ...]
    """``(n,)``: ids."""
    numbers: NDArray[np.int64]
    """``(n,)``: index of each passage in its document."""
    sentences: NDArray[np.int64]
    """``(n, 2)``: half-open ranges of sentences of the document."""
    characters: NDArray[np.int64]
    """``(n, 2)``: half-open spans of the document's text."""
    scores: NDArray[np.float64]
    """``(n,)``: BM25, cosine, or the sum of reciprocal ranks."""
    epoch: int
    """The state of the store that answered."""


@dataclass(frozen=True)
class TokenRun:
    """The longest run of a sequence's tokens before live entries."""

    start: int
    stop: int
    """Half-open range of the sequence."""
    count: int
    """How many times it occurs; 0 where nothing of the sequence does."""
    entries: NDArray[np.int64]
    """Ids of the first entries at its last token, increasing."""
    epoch: int
    """The state of the store that answered."""


@dataclass(frozen=True)
class Place:
    """Where an entry comes from: a sentence of a document."""

    document: str
    sentence: int
    """Index of the sentence in its document."""
    position: int
    """Index of the entry's key token in its document."""


@dataclass(frozen=True)
class LiveText:
    """The text of a live document, and which of its sentences may not be served."""

    text: str
    """As it is stored: what was removed is in it until compaction."""
    sentences: NDArray[np.int64]
    """``(s, 2)``: character spans."""
    is_removed: NDArray[np.bool_]
    """``(s,)``."""

    def pieces(self) -> list[tuple[int, str]]:
        """What may be served: runs of sentences in a row, each with the offset of its first character in ``text``."""
        edges = np.flatnonzero(np.diff(np.concatenate([[False], ~self.is_removed, [False]]))).reshape(-1, 2)
        spans = [(int(self.sentences[a, 0]), int(self.sentences[b - 1, 1])) for a, b in edges]
        return [(start, self.text[start:stop]) for start, stop in spans]


@dataclass(frozen=True)
class StoredDocument:
    """A document's facts and what the store holds of it now."""

    facts: DocumentFacts
    state: str
    """``live``; ``hidden``: not served while a request is reviewed; ``removed``: no longer served; ``erased``: its
    bytes are gone too."""
    n_entries: int
    n_sentences: int
