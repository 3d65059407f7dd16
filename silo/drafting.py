"""What comes next where a text is being copied: the datastore's own continuation, to be read in one pass.

Knows a store's entries and the tokens that were chosen; knows no LM. A draft never decides anything: each of its tokens
is kept only where the mixture chooses that very token at that place, so what is generated is the same without drafts.

Drafting everywhere would lose, since reading five tokens costs more than reading one. So it is tried only while the
text follows a source: when the sources of the chosen tokens have been consecutive entries for ``MIN_RUN`` tokens. The
entries are known already, from the tracing of each token. Drafts grow while they come true, 4, 8, then 16 tokens, and
one that mostly does not makes the drafter wait, for twice as long each time.

A run belongs to an epoch of the store and is forgotten with it, so nothing that has left is drafted; and it is a
function of the live entries alone, so a store without a document drafts as one that never had it.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

MIN_RUN = 4
SIZES = (4, 8, 16)
MIN_WAIT, MAX_WAIT = 8, 128
"""Tokens to go on without drafts after one that failed."""


@runtime_checkable
class Source(Protocol):
    """What a drafter asks of a datastore."""

    @property
    def epoch(self) -> int:
        """How many changes it has seen."""
        ...

    def following(self, entry: int, n: int, epoch: int) -> NDArray[np.int64] | None:
        """The values of the first of ``n`` entries from ``entry`` on; None where ``epoch`` is past."""
        ...


class Drafter:
    """Proposes tokens for one text in the making, which ends before its token ``end``."""

    def __init__(self, store: Source, end: int) -> None:
        self._store = store
        self._end = end
        self._epoch: int | None = None
        self._runs: dict[int, int] = {}
        """By the last entry of each: for how many tokens the text has followed a source."""
        self._size = 0
        self._pause = MIN_WAIT
        self._waiting = 0

    def chose(self, entries: Sequence[int], epoch: int | None) -> None:
        """A token was chosen, whose sources are ``entries`` as of ``epoch``."""
        before = self._runs if epoch == self._epoch else {}
        self._runs = {entry: before.get(entry - 1, 0) + 1 for entry in entries}
        self._epoch = epoch
        self._waiting = max(0, self._waiting - 1)

    @property
    def is_of_now(self) -> bool:
        """Whether the store is the one that the last draft came from."""
        return self._epoch == self._store.epoch

    def propose(self, length: int) -> list[int]:
        """Tokens that may follow the ``length`` that there are; none where the text follows no source."""
        if self._waiting or not self._runs or self._epoch is None:
            return []
        entry = min(self._runs, key=lambda entry: (-self._runs[entry], entry))
        n = min(SIZES[self._size], self._end - length - 1)  # the last token needs no draft, nor one after it
        if self._runs[entry] < MIN_RUN or n < 1:
            return []
        found = self._store.following(entry + 1, n, self._epoch)
        return [] if found is None else [int(token) for token in found]

    def judged(self, n_drafted: int, n_kept: int) -> None:
        """Of a draft of ``n_drafted`` tokens, ``n_kept`` were chosen."""
        if n_kept == n_drafted:
            self._size = min(self._size + 1, len(SIZES) - 1)
            self._pause = MIN_WAIT
            return
        self._size = 0
        if 2 * n_kept < n_drafted:
            self._waiting = self._pause
            self._pause = min(2 * self._pause, MAX_WAIT)
