"""How much texts repeat themselves and one another, by runs of n tokens. Pure functions on tokens.

``rep-n`` is one less the share of different ones among the n-grams of one text, as in Welleck et al. (2020);
``distinct-n`` the share of different ones among those of several texts together, as in Li et al. (2016). The latter
falls with the amount of text: compare only what has as much of it.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int


def ngrams(text: Sequence[int], n: int) -> list[tuple[int, ...]]:
    """The runs of ``n`` tokens of ``text``, in order."""
    return [tuple(text[i : i + n]) for i in range(len(text) - n + 1)]


def repetition(text: Sequence[int], n: int) -> float:
    """``rep-n``, 0 to 1; 0 where the text has no n-gram."""
    found = ngrams(text, n)
    return 1 - len(set(found)) / len(found) if found else 0.0


class Distinct:
    """``distinct-n`` of any of ``texts``: call it with the indices of those that are meant."""

    def __init__(self, texts: Sequence[Sequence[int]], n: int) -> None:
        numbers: dict[tuple[int, ...], int] = {}
        self._texts = [
            np.array([numbers.setdefault(one, len(numbers)) for one in ngrams(text, n)], dtype=np.int64)
            for text in texts
        ]
        self._n_kinds = len(numbers)

    def __call__(self, rows: Int[np.ndarray, " rows"]) -> float:
        """0 to 1; 0 where there is no n-gram."""
        found = [self._texts[row] for row in rows.tolist()]
        total = sum(map(len, found))
        is_there = np.zeros(self._n_kinds, dtype=bool)
        for one in found:
            is_there[one] = True
        return float(is_there.sum()) / total if total else 0.0
