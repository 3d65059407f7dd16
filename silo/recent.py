"""How well the datastore foretold the tokens just before a position: what a gate may know of how far to trust it.

A text that quotes stored text, or is written like it, has been foretold by it all along; one that has nothing to do
with it has not. The mixture thus follows a document without anything being fitted on its domain.

Only suffixes are asked, as they cost next to nothing and need no context vectors: what is known of a position depends
on the tokens before it and the store, not on how they were read. So a text that is made token by token, scored at once,
drafted, or searched by beams gets the same features, and after an opt-out those of a store that never had the document.

What they move is how much each part of the mixture is heard. Masses tell whose terms a probability was made of, with
the shares as they were; they do not tell whose text made the shares what they are.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from datastore.records import Continuations

WINDOW = 64
"""Tokens before a position that are looked at."""
DECAYS = (0.8, 0.97)
"""By which a token counts for less than the one after it: averages over about 5 tokens, and over about 30."""
_MAX_KNOWN = 256
"""Texts in the making that are remembered, the last ones: beams and rows of a batch need one each."""
_WEIGHTS = np.array([[(1 - decay) * decay**back for back in range(WINDOW - 1, -1, -1)] for decay in DECAYS])


def recent_names(limits: Sequence[int]) -> tuple[str, ...]:
    """What the columns of the features are, for one or more limits."""
    outcomes = [f"ngram@{limit} {what}" for limit in limits for what in ("foretold", "had spoken")]
    return tuple(f"{name} ({decay:g}, {WINDOW})" for decay in DECAYS for name in (*outcomes, "ngram lengths"))


def outcomes(following: Continuations, came: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n o"]:
    """What became of each position, at which ``came`` came.

    Columns: for each limit the probability that it gave to that token, and whether it had anything to say; then the
    natural log of one more than the longest suffix's length.
    """
    n, m = following.counts.shape
    found = np.empty((n, 2 * m + 1))
    found[:, 0 : 2 * m : 2] = gold_counts(following, came) / np.maximum(following.counts, 1)
    found[:, 1 : 2 * m : 2] = following.counts > 0
    found[:, -1] = np.log1p(following.lengths[:, 0])
    return found


def gold_counts(following: Continuations, gold: Int[np.ndarray, " n"]) -> Int[np.ndarray, "n m"]:
    """How often ``gold`` followed, at each limit."""
    n, m = following.counts.shape
    keys = (np.repeat(np.arange(n * m), np.diff(following.bounds)) << 32) | following.tokens
    wanted = ((np.arange(n * m) << 32) | np.repeat(gold, m)).astype(np.int64)
    if not len(keys):
        return np.zeros((n, m), dtype=np.int64)
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, following.token_counts[at], 0).reshape(n, m)


def no_outcomes(n_limits: int) -> Float[np.ndarray, "window o"]:
    """Before a text begins."""
    return np.zeros((WINDOW, 2 * n_limits + 1))


def features(before: Float[np.ndarray, "window o"]) -> Float[np.ndarray, " f"]:
    """The features of a position from the outcomes of the ``WINDOW`` positions before it, the nearest last."""
    found: np.ndarray = _WEIGHTS @ before
    return found.ravel()


def features_after(
    before: Float[np.ndarray, "window o"], there: Float[np.ndarray, "n o"]
) -> tuple[Float[np.ndarray, "n f"], Float[np.ndarray, "window o"]]:
    """The features of *n* positions in a row, whose outcomes are ``there``, and what is before the position after."""
    rows = np.concatenate([before, there])
    return np.stack([features(rows[i : i + WINDOW]) for i in range(len(there))]), rows[len(there) :]


@runtime_checkable
class Source(Protocol):
    """What is asked of a datastore."""

    def continuations(self, contexts: Sequence[Sequence[int]], limits: Sequence[int] | None = None) -> Continuations:
        """As ``Datastore.continuations``."""
        ...


class Recollection:
    """The features of texts that grow: a token more costs the outcome of one position, not of all before it."""

    def __init__(self, store: Source, limits: Sequence[int]) -> None:
        self._store = store
        self._limits = tuple(limits)
        self._n_tail = WINDOW + max(self._limits)
        """Tokens on which the outcomes before a position depend."""
        self._epoch = -1
        self._known: dict[tuple[int, ...], tuple[np.ndarray, Continuations, int]] = {}
        """By the end of a text: the outcomes before it, and what the store says of it, in which row."""

    def features(self, texts: Sequence[Sequence[int]], following: Continuations) -> Float[np.ndarray, "n f"] | None:
        """At the end of each of ``texts``, after which the store has what ``following`` says.

        None where the store has changed since it said so.
        """
        if following.epoch != self._epoch:
            self._known, self._epoch = {}, following.epoch
        found: list[np.ndarray] = []
        for row, text in enumerate(texts):
            before = self._before(text)
            if before is None:
                return None
            self._known[tuple(text[-self._n_tail :])] = (before, following, row)
            found.append(features(before))
        while len(self._known) > max(_MAX_KNOWN, len(texts)):
            del self._known[next(iter(self._known))]
        return np.stack(found)

    def _before(self, text: Sequence[int]) -> Float[np.ndarray, "window o"] | None:
        """The outcomes of the positions before the end of ``text``."""
        if not text:
            return no_outcomes(len(self._limits))
        known = self._known.get(tuple(text[-self._n_tail - 1 : -1]))
        if known is not None:
            before, following, row = known
            return np.concatenate([before[1:], outcomes(_row(following, row), np.array(text[-1:]))])
        first, reach = max(0, len(text) - WINDOW), max(self._limits)
        contexts = [text[max(0, at - reach) : at] for at in range(first, len(text))]
        following = self._store.continuations(contexts, self._limits)
        if following.epoch != self._epoch:
            return None
        found = outcomes(following, np.array(text[first:]))
        return np.concatenate([no_outcomes(len(self._limits))[len(found) :], found])


def _row(following: Continuations, row: int) -> Continuations:
    """What was said of one context."""
    m = following.counts.shape[1]
    bounds = following.bounds[row * m : (row + 1) * m + 1]
    here = slice(bounds[0], bounds[-1])
    return Continuations(
        following.lengths[row : row + 1],
        following.counts[row : row + 1],
        bounds - bounds[0],
        following.tokens[here],
        following.token_counts[here],
        following.epoch,
    )
