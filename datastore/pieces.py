"""The arrays of one document of a segment, by themselves: as they are made, copied, and left when sentences go.

Positions are counted from the document's own start. Knows no files and no other document.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datastore import passages
from datastore.passages import PassageSettings
from datastore.records import EncodedDocument
from datastore.redaction import Ranges, Redacted, passages_left, redact, without_spans


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
        return redacted(len(self.tokens), self.sentences[:, 0], self.breaks, removed)

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


def redacted(n_tokens: int, firsts: NDArray[np.int64], breaks: NDArray[np.int64], removed: Ranges) -> Redacted:
    """``redact`` of a document of ``n_tokens`` whose sentences begin at the tokens ``firsts``."""
    return redact(np.searchsorted(firsts, np.arange(n_tokens), side="right") - 1, breaks, removed)


def pieces_of(document: EncodedDocument, token_type: str, settings: PassageSettings) -> Pieces:
    """Those of a document that is new, with passages as ``settings`` cut them."""
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


def first_positions(pieces: Sequence[Pieces]) -> list[int]:
    """Of each document, where they are put one after another."""
    return list(itertools.accumulate((len(p.tokens) for p in pieces), initial=0))[: len(pieces)]


def run_starts(starts: NDArray[np.int64], breaks: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where runs begin: with each document, and behind each hole."""
    return np.sort(np.concatenate([starts, breaks]))
