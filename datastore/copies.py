"""Copies of a text among the documents of a store, and the sentences they are in, so that its owner can be shown them.

Reads every live text: time grows with the store. Runs no search and changes nothing. What counts are words, folded as
``fingerprints`` folds them, in runs of at least 8; sentences that were taken out are not looked at, and no run goes
over their place.
"""

from collections.abc import Container
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datastore.fingerprints import SHINGLE, containment, fingerprints, shingles, shingles_of, winnow, words
from datastore.records import LiveText
from datastore.redaction import Ranges
from datastore.store import Datastore
from datastore.suppression import QUARANTINED_AT
from datastore.tables import LIVE

MIN_WORDS = 16
"""Words that a document must share in a row with a text that it otherwise does not resemble: two shingles. A shorter
phrase may be anyone's."""


@dataclass(frozen=True)
class Copy:
    """A live document that shares much with a text."""

    document: str
    containment: float
    """From 0 to 1: how much of one is in the other, the larger of both ways."""
    sentences: Ranges
    """Half-open ranges of the sentences that hold the text: 8 of its words in shared runs, or half of their own."""
    n_words: int
    """The longest run of words that both have, up to case, marks and punctuation."""


def find_copies(store: Datastore, text: str, *, besides: Container[str] = (), min_words: int = MIN_WORDS) -> list[Copy]:
    """The live documents that hold some of ``text``, other than ``besides``; the largest containment first.

    Those with a containment of at least 0.2, and those that share at least ``min_words`` words in a row, or all
    words of a shorter text.
    """
    sought, winnowed = np.unique(shingles(text)), fingerprints(text)
    enough = min(min_words, max(SHINGLE, len(words(text))))
    found = []
    for document in [document.facts.id for document in store.documents(LIVE)]:
        stored = store.live_text(document) if document not in besides else None
        if stored is not None and (copy := _compare(document, stored, sought, winnowed, enough)):
            found.append(copy)
    live = [copy for copy in found if store.document(copy.document).state == LIVE]
    return sorted(live, key=lambda copy: (-copy.containment, -copy.n_words, copy.document))


def _compare(
    document: str, stored: LiveText, sought: NDArray[np.int64], winnowed: NDArray[np.int64], enough: int
) -> Copy | None:
    pieces = _pieces(stored)
    hashes = [shingles_of([word for sentence in piece for word in sentence]) for _, piece in pieces]
    share = containment(np.unique(np.concatenate([winnowed[:0], *map(winnow, hashes)])), winnowed)
    enough = SHINGLE if share >= QUARANTINED_AT else enough
    holding = np.zeros(len(stored.sentences) + 1, dtype=bool)
    longest = 0
    for (first, piece), of_piece in zip(pieces, hashes, strict=True):
        lengths = np.array([len(sentence) for sentence in piece])
        is_shared, run = _shared_words(np.isin(of_piece, sought), int(lengths.sum()), enough)
        n_shared = np.bincount(np.repeat(np.arange(len(piece)), lengths), is_shared, minlength=len(piece))
        holding[first : first + len(piece)] = (n_shared >= SHINGLE) | ((2 * n_shared >= lengths) & (n_shared > 0))
        longest = max(longest, run)
    if share < QUARANTINED_AT and not holding.any():
        return None
    edges = np.flatnonzero(np.diff(np.concatenate([[False], holding]))).reshape(-1, 2)
    return Copy(document, share, tuple((a, b) for a, b in edges.tolist()), longest)


def _pieces(stored: LiveText) -> list[tuple[int, list[list[str]]]]:
    """The words of each live sentence, in runs of sentences in a row, each with the index of its first."""
    pieces: list[tuple[int, list[list[str]]]] = []
    for i, (start, stop) in enumerate(stored.sentences.tolist()):
        if stored.is_removed[i]:
            continue
        if not pieces or pieces[-1][0] + len(pieces[-1][1]) != i:
            pieces.append((i, []))
        pieces[-1][1].append(words(stored.text[start:stop]))
    return pieces


def _shared_words(is_shared: NDArray[np.bool_], n_words: int, enough: int) -> tuple[NDArray[np.bool_], int]:
    """Which words lie in runs of at least ``enough`` words under shared shingles, and the length of the longest."""
    covered = np.zeros(n_words + 1, dtype=np.int64)
    firsts = np.flatnonzero(is_shared)
    np.add.at(covered, firsts, 1)
    np.add.at(covered, np.minimum(firsts + SHINGLE, n_words), -1)
    inside = np.cumsum(covered[:-1]) > 0
    edges = np.flatnonzero(np.diff(np.concatenate([[False], inside, [False]]))).reshape(-1, 2)
    is_long = np.zeros(n_words, dtype=bool)
    for first, last in edges:
        is_long[first:last] = last - first >= min(enough, n_words)
    lengths = (edges[:, 1] - edges[:, 0])[edges[:, 1] - edges[:, 0] >= min(enough, n_words)]
    return is_long, int(lengths.max(initial=0))
