"""How often each token followed each of several runs: counts by row and token, added up and handed around as arrays."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Tally = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
"""Rows, tokens and counts, ``(t,)`` each, in the order (row, token), each pair once."""


def summed(parts: Sequence[Tally]) -> Tally:
    """One tally of several: counts of the same row and token add up."""
    if len(parts) == 1:
        return parts[0]
    empty = np.empty(0, np.int64)
    rows, tokens, counts = (np.concatenate([empty, *(part[i] for part in parts)]) for i in range(3))
    keys = joined(rows, tokens)
    order = np.argsort(keys, kind="stable")
    keys, counts = keys[order], counts[order]
    firsts = np.flatnonzero(np.diff(keys, prepend=-1))
    return (*parted(keys[firsts]), np.add.reduceat(counts, firsts) if len(firsts) else empty)


def spread(tally: Tally, numbers: NDArray[np.int64], n: int) -> Tally:
    """A tally whose row *i* is row ``numbers[i]`` of ``tally``, which has ``n``."""
    rows, tokens, counts = tally
    bounds = np.searchsorted(rows, np.arange(n + 1))
    first, sizes = bounds[numbers], bounds[numbers + 1] - bounds[numbers]
    before = np.cumsum(sizes) - sizes
    taken = np.arange(sizes.sum()) + np.repeat(first - before, sizes)
    return np.repeat(np.arange(len(numbers)), sizes), tokens[taken], counts[taken]


def joined(rows: NDArray[np.int64], tokens: NDArray[np.int64]) -> NDArray[np.int64]:
    """Row and token in one number, ``(t,)``; tokens are below 2**32."""
    return (rows << 32) | tokens


def parted(keys: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and tokens of numbers that ``joined`` made, ``(t,)`` each."""
    return keys >> 32, keys & 0xFFFFFFFF
