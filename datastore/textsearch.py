"""Where a text is in a store, exactly: by its tokens, and confirmed on the stored characters.

Knows no tokenizer; takes one as a function. A text that was cut out of another is tokenized differently at its edges,
where a word or a run of digits was cut, and the same within. So a few tokens are dropped at both edges, the suffix
arrays say which documents have those in between, and the characters of these decide. A text too short for that is
looked for in every live text.

The limit: a cut that changes more than ``MAX_EDGE`` tokens on one side, as in a word of so many tokens, hides an
occurrence; ``is_thorough`` reads every live text, in time that grows with the store.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from datastore.redaction import Ranges
from datastore.store import Datastore
from datastore.verbatim import live_pieces

Tokenize = Callable[[str], Sequence[int]]
"""Token ids of a text, without special tokens, as the documents of the store were tokenized."""

MIN_EDGE, MAX_EDGE = 3, 8
"""Tokens dropped on each side."""
MIN_INTERIOR = 4
"""Tokens that must be left to ask the suffix arrays; fewer are in too many documents to say much."""


@dataclass(frozen=True)
class Found:
    """An occurrence of a text in a live document."""

    document: str
    start: int
    stop: int
    """Half-open range of characters in the stored text."""
    sentences: Ranges
    """The range of sentences that it touches."""


def find_text(store: Datastore, text: str, tokenize: Tokenize, *, is_thorough: bool = False) -> list[Found]:
    """Every occurrence of ``text`` in live documents, in the order of ingestion; none that runs over a removed passage.

    Raises:
        ValueError: ``text`` is empty.
    """
    if not text:
        raise ValueError("an empty text is everywhere; name one of at least a character")
    while True:
        epoch = store.epoch
        names = None if is_thorough else _candidates(store, np.asarray(tokenize(text), dtype=np.int64))
        found = [hit for name, start, piece in live_pieces(store, names) for hit in _hits(name, start, piece, text)]
        placed = [_placed(store, name, start, start + len(text)) for name, start in found]
        if store.epoch == epoch:
            return [hit for hit in placed if hit is not None]


def _candidates(store: Datastore, tokens: np.ndarray) -> list[str] | None:
    """The documents that have the tokens in between; None where every live document has to be asked."""
    edge = min(MAX_EDGE, (len(tokens) - MIN_INTERIOR) // 2)
    if edge < MIN_EDGE:
        return None
    interior = tokens[edge : len(tokens) - edge]
    while True:
        found = store.occurrences(interior, store.occurrences(interior, 0).count)
        places = store.locate(found.entries, found.epoch)
        if places is not None and len(places) == found.count:
            return list(dict.fromkeys(place.document for place in places))


def _hits(name: str, start: int, piece: str, text: str) -> list[tuple[str, int]]:
    hits = []
    at = piece.find(text)
    while at >= 0:
        hits.append((name, start + at))
        at = piece.find(text, at + 1)
    return hits


def _placed(store: Datastore, name: str, start: int, stop: int) -> Found | None:
    stored = store.live_text(name)
    if stored is None:
        return None
    touched = np.flatnonzero((stored.sentences[:, 0] < stop) & (stored.sentences[:, 1] > start))
    return Found(name, start, stop, ((int(touched[0]), int(touched[-1]) + 1),))
