"""Intervals by drawing what was measured anew (percentile bootstrap), or halves of it. Works on numbers."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Int

N_RESAMPLES = 1000


def mean_interval(values: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """95 % of the mean of ``values``."""
    found = np.asarray(values, dtype=np.float64)
    return _quantiles(found[_drawn(len(found), seed, N_RESAMPLES)].mean(axis=1))


def share_interval(
    figure: Callable[[Int[np.ndarray, " rows"]], float], n: int, seed: int = 0, n_resamples: int = N_RESAMPLES
) -> tuple[float, float]:
    """95 % of ``figure``, from 0 to 1, a function of the indices of what is looked at, of which there are ``n``.

    For figures that are biased by what is drawn twice, such as how many kinds there are. So halves are drawn, nothing
    twice: a mean varies from half to half as that of all does from sample to sample. What halves have is moved so that
    its mean is the figure of all.
    """
    random = np.random.default_rng(seed)
    found = np.array([figure(random.permutation(n)[: max(1, n // 2)]) for _ in range(n_resamples)])
    low, high = _quantiles(found - found.mean() + figure(np.arange(n)))
    return max(low, 0.0), min(high, 1.0)


def _drawn(n: int, seed: int, n_resamples: int) -> Int[np.ndarray, "resamples n"]:
    return np.random.default_rng(seed).integers(n, size=(n_resamples, n))


def _quantiles(resampled: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(resampled, [0.025, 0.975])
    return float(low), float(high)
