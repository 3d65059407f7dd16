"""Taking sentences out of a document that stays: which tokens, entries and characters go with them.

Pure functions on arrays. An entry goes where its key token or its value token lies in a removed sentence. What stays
falls into *runs* of tokens; the last token of a run is a value and never a key, as the end of a document is, so that
nothing joins over a hole. The end of text is nobody's words and always stays. A passage of which a sentence goes,
goes as a whole: its words are counted, and its vector made, of all of it.

The limit, for whoever relies on this: the keys of the tokens *after* a removed passage were computed with the passage
in the LM's context, and they stay as they are. Only encoding the document again takes that influence out; the
alternative is to opt the whole document out.
"""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datastore.errors import BadArrays
from datastore.passages import DEFAULT_TOKENS, ranges_of
from datastore.records import EncodedDocument

Ranges = tuple[tuple[int, int], ...]
"""Half-open ranges of sentences, increasing, with at least one sentence between two of them."""


@dataclass(frozen=True)
class Redacted:
    """What a removal of sentences means for the ``t`` tokens of a document."""

    is_kept: NDArray[np.bool_]
    """``(t,)``: the tokens that stay."""
    is_entry: NDArray[np.bool_]
    """``(t,)``: the entries that stay."""

    @property
    def n_entries(self) -> int:
        """Entries that stay."""
        return int(self.is_entry.sum())

    def moved(self, start: int) -> NDArray[np.int64]:
        """``(t,)``: where each entry comes to lie where what stays begins at ``start``; -1 for no entry."""
        return np.where(self.is_entry, start + np.cumsum(self.is_kept) - 1, -1)

    @property
    def run_starts(self) -> NDArray[np.int64]:
        """Indices, among the tokens that stay, of those that begin a run; the first is 0."""
        ends = np.flatnonzero(~self.is_entry[self.is_kept])
        return np.concatenate([[0], ends[:-1] + 1])

    def n_before(self, token: int) -> int:
        """How many of the tokens before ``token`` stay."""
        return int(self.is_kept[:token].sum())

    def holes(self) -> list[tuple[int, int]]:
        """Half-open ranges of the tokens that go."""
        edges = np.flatnonzero(np.diff(np.concatenate([[False], ~self.is_kept, [False]])))
        return [(a, b) for a, b in edges.reshape(-1, 2).tolist()]


def normalized(ranges: Iterable[tuple[int, int]], n_sentences: int) -> Ranges:
    """``ranges`` in order, those that touch made one.

    Raises:
        BadArrays: there are none, one is empty, or one is not within the ``n_sentences`` of the document.
    """
    found: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if not 0 <= first < last <= n_sentences:
            raise BadArrays(f"sentences {first} to {last} (excluded) are no range of the {n_sentences} of the document")
        if found and first <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], last)
        else:
            found.append((first, last))
    if not found:
        raise BadArrays("name at least one sentence to remove")
    return tuple(found)


def merged(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Ranges that were normalized one by one, as one; none where there are none."""
    every = list(ranges)
    return normalized(every, max(last for _, last in every)) if every else ()


def lies_in(sentences: NDArray[np.integer], ranges: Ranges) -> NDArray[np.bool_]:
    """Which of ``sentences`` ``(t,)``, by index, are in ``ranges``."""
    inside = np.zeros(len(sentences), dtype=bool)
    for first, last in ranges:
        inside |= (sentences >= first) & (sentences < last)
    return inside


def redact(token_sentences: NDArray[np.integer], breaks: NDArray[np.integer], ranges: Ranges) -> Redacted:
    """What goes with the sentences in ``ranges`` of a document.

    ``token_sentences`` ``(t,)`` is as in ``EncodedDocument``; ``breaks`` are the indices of the tokens that begin a
    run already, without the first.
    """
    is_removed = lies_in(token_sentences, ranges)
    is_entry = np.ones(len(token_sentences), dtype=bool)
    is_entry[np.append(breaks, len(token_sentences)).astype(np.int64) - 1] = False
    is_entry[is_removed] = False
    is_entry[:-1][is_removed[1:]] = False
    is_kept = ~is_removed
    is_kept[-1] = True
    return Redacted(is_kept, is_entry)


def without_spans(text: str, spans: NDArray[np.integer], ranges: Ranges) -> tuple[str, NDArray[np.int64]]:
    """``text`` without the sentences in ``ranges``, and the ``spans`` ``(s, 2)`` then; those of what went are empty."""
    is_removed = lies_in(np.arange(len(spans)), ranges)
    n_gone = np.zeros(len(text) + 1, dtype=np.int64)
    pieces, last = [], 0
    for start, stop in spans[is_removed].tolist():
        n_gone[start + 1 : stop + 1] = 1
        pieces.append(text[last:start])
        last = max(last, stop)
    moved = np.asarray(spans, dtype=np.int64) - np.cumsum(n_gone)[spans]
    return "".join([*pieces, text[last:]]), moved.reshape(-1, 2)


def passages_left(passages: NDArray[np.int64], ranges: Ranges) -> NDArray[np.int64]:
    """``passages`` ``(p, 2)``, given as ranges of sentences; those of which one is in ``ranges`` become empty."""
    left = passages.copy()
    for first, last in ranges:
        is_hit = (left[:, 0] < last) & (left[:, 1] > first)
        left[is_hit, 1] = left[is_hit, 0]
    return left


def without_sentences(
    document: EncodedDocument, ranges: Iterable[tuple[int, int]], max_passage_tokens: int = DEFAULT_TOKENS
) -> EncodedDocument:
    """``document`` as if it had come with those sentences removed: the law that removal and compaction keep.

    Sentences keep their numbers: the removed ones stay as empty rows, so that a receipt means the same forever. So do
    the passages that a store of ``max_passage_tokens`` cuts. Id, digest and the other facts stay. The keys stay too,
    those after the passage included, which the LM made with the passage in its context: see above.

    Raises:
        BadArrays: as ``normalized``.
    """
    wanted = normalized(ranges, len(document.sentences))
    left = redact(document.token_sentences, document.breaks, wanted)
    passages = passages_left(ranges_of(document, max_passage_tokens), wanted)
    vectors = document.passage_vectors
    if vectors is not None:
        vectors = np.where((passages[:, 1] > passages[:, 0])[:, None], vectors, 0)
    text, spans = without_spans(document.text, document.sentences, wanted)
    return dataclasses.replace(
        document,
        text=text,
        tokens=document.tokens[left.is_kept],
        keys=document.keys[left.is_entry[document.entries]],
        sentences=spans,
        token_sentences=document.token_sentences[left.is_kept],
        breaks=left.run_starts[1:],
        passages=passages,
        passage_vectors=vectors,
    )
