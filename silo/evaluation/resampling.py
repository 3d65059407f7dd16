"""Intervals by drawing what was measured anew, with replacement (percentile bootstrap). Works on numbers."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Int

N_RESAMPLES = 1000


def mean_interval(values: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """95 % of the mean of ``values``."""
    found = np.asarray(values, dtype=np.float64)
    return _quantiles(found[_drawn(len(found), seed, N_RESAMPLES)].mean(axis=1))


def centered_interval(
    figure: Callable[[Int[np.ndarray, " n"]], float], n: int, seed: int = 0, n_resamples: int = N_RESAMPLES
) -> tuple[float, float]:
    """95 % of ``figure``, a function of the indices of what is looked at, of which there are ``n``.

    For figures that are biased by what is drawn twice, such as how many kinds there are: the resampled ones are moved
    so that their mean is the figure of all.
    """
    found = np.array([figure(rows) for rows in _drawn(n, seed, n_resamples)])
    return _quantiles(found - found.mean() + figure(np.arange(n)))


def _drawn(n: int, seed: int, n_resamples: int) -> Int[np.ndarray, "resamples n"]:
    return np.random.default_rng(seed).integers(n, size=(n_resamples, n))


def _quantiles(resampled: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(resampled, [0.025, 0.975])
    return float(low), float(high)
