"""The next-token distribution of an LM mixed with a datastore's neighbors.

Pure functions on arrays, in log space and float64; knows neither models nor stores.

    p(y) = (1 - w) p_LM(y) + w p_kNN(y)        p_kNN(y) ∝ Σ exp(-d_i / τ) over neighbors i with value y

Khandelwal et al. (2020), equations 2 and 3, with *d* the squared L2 distance. Only tokens that a neighbor
proposes are touched: the others keep (1 - w) of their LM probability exactly.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True)
class Candidates:
    """What the neighbors propose: each token once, with its share of p_kNN."""

    tokens: Int[np.ndarray, " c"]
    """Those of nearer neighbors first."""
    logprobs: Float[np.ndarray, " c"]
    """Natural log of p_kNN; their exponentials sum to one."""


def neighbor_logprobs(squared_distances: Float[np.ndarray, " k"], temperature: float) -> Float[np.ndarray, " k"]:
    """Natural log of each neighbor's share of p_kNN; -inf for one that is missing (infinitely far)."""
    scores = -squared_distances.astype(np.float64) / temperature
    if not len(scores) or not np.isfinite(scores).any():
        return np.full(len(scores), -np.inf)
    shifted: np.ndarray = scores - scores.max()
    return shifted - np.log(np.exp(shifted).sum())


def candidates(values: Int[np.ndarray, " k"], shares: Float[np.ndarray, " k"]) -> Candidates:
    """Add up the shares of neighbors with the same value. ``shares`` are log-probabilities, -inf where missing.

    A neighbor so far that its share is below the smallest float proposes nothing. A plain loop: there are only a
    few dozen neighbors.
    """
    sums: dict[int, float] = {}
    for token, share in zip(values.tolist(), np.exp(shares).tolist(), strict=True):
        if share > 0:
            sums[token] = sums.get(token, 0.0) + share
    return Candidates(np.array(list(sums), dtype=np.int64), np.log(np.array(list(sums.values()), dtype=np.float64)))


def interpolate(
    lm_logprobs: Float[np.ndarray, " vocabulary"], proposed: Candidates, knn_weight: float
) -> Float[np.ndarray, " vocabulary"]:
    """Natural log of the mixture. Without any candidate it is the LM's distribution, whatever the weight."""
    logprobs = lm_logprobs.astype(np.float64)
    if knn_weight == 0 or not len(proposed.tokens):
        return logprobs
    with np.errstate(divide="ignore"):
        logprobs += np.log1p(-knn_weight)
    logprobs[proposed.tokens] = np.logaddexp(logprobs[proposed.tokens], np.log(knn_weight) + proposed.logprobs)
    return logprobs


def token_masses(
    token: int,
    lm_logprob: float,
    values: Int[np.ndarray, " k"],
    shares: Float[np.ndarray, " k"],
    knn_weight: float,
) -> tuple[float, Int[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """Whose terms made the probability of ``token``: the LM's mass, and the neighbors that proposed it with theirs.

    ``lm_logprob`` is the LM's own log-probability of ``token``. The masses sum to one.
    """
    proposers = np.flatnonzero((values == token) & np.isfinite(shares))
    if knn_weight == 0 or not np.isfinite(shares).any():
        return 1.0, proposers[:0], np.empty(0)
    terms = knn_weight * np.exp(shares[proposers])
    parametric = (1 - knn_weight) * float(np.exp(lm_logprob))
    total = parametric + terms.sum()
    return parametric / total, proposers, terms / total
