"""The next-token distribution of an LM mixed with what other predictors propose.

Pure functions on arrays, in log space and float64; knows neither models nor stores.

    p(y) = w_LM p_LM(y) + w_kNN p_kNN(y) + w_∞gram p_∞gram(y)        the shares w sum to one
    p_kNN(y) ∝ Σ exp(-d_i / τ) over neighbors i with value y

The kNN-LM is that of Khandelwal et al. (2020), equations 2 and 3, with *d* the squared L2 distance; p_∞gram is made
in ``silo.backoff``. Only tokens that somebody proposes are touched: the others keep w_LM of their LM probability
exactly. A predictor that has nothing to propose gives its share back to the LM.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True)
class Candidates:
    """What a predictor proposes: each token once, with its probability."""

    tokens: Int[np.ndarray, " c"]
    logprobs: Float[np.ndarray, " c"]
    """Natural log; their exponentials sum to one."""

    def logprob(self, token: int) -> float:
        """Of ``token``; minus infinity where it is not proposed."""
        (found,) = np.nonzero(self.tokens == token)
        return float(self.logprobs[found[0]]) if len(found) else -math.inf


@dataclass(frozen=True)
class Proposal:
    """A predictor's candidates, and the share of probability that it is given, 0 to 1."""

    candidates: Candidates
    weight: float

    @property
    def is_empty(self) -> bool:
        """Whether it takes no part: its share is the LM's then."""
        return self.weight == 0 or not len(self.candidates.tokens)


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
    few dozen neighbors. Tokens of nearer neighbors come first.
    """
    sums: dict[int, float] = {}
    for token, share in zip(values.tolist(), np.exp(shares).tolist(), strict=True):
        if share > 0:
            sums[token] = sums.get(token, 0.0) + share
    return Candidates(np.array(list(sums), dtype=np.int64), np.log(np.array(list(sums.values()), dtype=np.float64)))


def interpolate(
    lm_logprobs: Float[np.ndarray, " vocabulary"], proposals: Sequence[Proposal]
) -> Float[np.ndarray, " vocabulary"]:
    """Natural log of the mixture. Where nobody proposes anything it is the LM's distribution, whatever the shares."""
    logprobs = lm_logprobs.astype(np.float64)
    heard = [proposal for proposal in proposals if not proposal.is_empty]
    if heard:
        logprobs += _log_rest(heard)
    for proposal in heard:
        tokens = proposal.candidates.tokens
        terms = math.log(proposal.weight) + proposal.candidates.logprobs
        logprobs[tokens] = np.logaddexp(logprobs[tokens], terms)
    return logprobs


def token_masses(token: int, lm_logprob: float, proposals: Sequence[Proposal]) -> tuple[float, tuple[float, ...]]:
    """Whose terms made the probability of ``token``: the LM's mass, and one for each of ``proposals``.

    ``lm_logprob`` is the LM's own log-probability of ``token``. The masses sum to one. A token to which nobody gives
    any probability is the LM's.
    """
    heard = [proposal for proposal in proposals if not proposal.is_empty]
    parametric = math.exp(lm_logprob + _log_rest(heard)) if heard else math.exp(lm_logprob)
    terms = [
        0.0 if proposal.is_empty else proposal.weight * math.exp(proposal.candidates.logprob(token))
        for proposal in proposals
    ]
    total = parametric + math.fsum(terms)
    if total == 0:
        return 1.0, (0.0,) * len(terms)
    return parametric / total, tuple(term / total for term in terms)


def neighbor_masses(
    token: int, values: Int[np.ndarray, " k"], shares: Float[np.ndarray, " k"]
) -> tuple[Int[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """The neighbors that proposed ``token``, and what part of p_kNN's mass for it is owed to each; they sum to one."""
    proposers = np.flatnonzero((values == token) & np.isfinite(shares))
    if not len(proposers):
        return proposers, np.empty(0)
    terms = np.exp(shares[proposers] - shares[proposers].max())
    return proposers, terms / terms.sum()


def _log_rest(heard: Sequence[Proposal]) -> float:
    """Natural log of the share that is left to the LM."""
    given = math.fsum(proposal.weight for proposal in heard)
    return math.log1p(-given) if given < 1 else -math.inf
