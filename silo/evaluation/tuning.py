"""Which k, temperature and shares predict a trace best, and what any choice of them gives to it.

Pure functions on traces; no LM is read and nothing searched. What is tuned here is what the papers tune on validation
text of each domain: the baseline of a gate, which is tuned on none.

An absent component's share goes to the LM, so every choice is a distribution.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from silo.errors import BadRequest
from silo.evaluation.traces import Trace, TraceSettings
from silo.evidence import Evidence, without
from silo.gate import Gate

Predictor = Literal["lm", "knn", "infini", "ngram", "pair", "gate", "gate-knn", "gate-ngram"]
PREDICTORS: dict[str, str] = {
    "lm": "the LM alone",
    "knn": "LM and neighbors; k, temperature and one share tuned, as in Min et al. (2023)",
    "infini": "LM and the longest suffix; a share where one token followed and another elsewhere, as in Liu et al. "
    "(2024)",
    "ngram": "LM and the suffixes at every limit, with fixed shares",
    "pair": "LM, neighbors and the suffixes, with fixed shares",
    "gate": "LM, neighbors and suffixes, with the shares of the gate",
    "gate-knn": "LM and neighbors, with the shares of the gate",
    "gate-ngram": "LM and suffixes, with the shares of the gate",
}
TUNED = ("knn", "infini", "ngram", "pair")
GATED = {"gate": None, "gate-knn": "ngram", "gate-ngram": "knn"}
"""Predictors of the gate, and the kind of retrieval that each goes without."""
_SHARES = np.round(np.linspace(0.05, 0.95, 19), 2)
_N_STEPS = 60
_TINY = 1e-12
_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class Choice:
    """What was tuned for one predictor."""

    predictor: str
    k: int = 0
    factor: float = 0.0
    """The kNN temperature as a multiple of the store's."""
    shares: tuple[float, ...] = (1.0,)
    """Of the LM first. ``knn``: of the neighbors. ``infini``: where one token followed, where several did. ``ngram``:
    of each limit. ``pair``: of the neighbors and each limit."""


def tune(predictor: str, seen: Trace, settings: TraceSettings) -> Choice:
    """The choice with the lowest loss on ``seen``. Raises BadRequest for a predictor that has nothing to tune."""
    if predictor not in TUNED:
        raise BadRequest(f"only {', '.join(TUNED)} are tuned; got {predictor!r}")
    if predictor in {"knn", "pair"}:
        k, factor, share = _best_of_grid(seen, settings)
        knn = Choice("knn", k, factor, (1 - share, share))
        if predictor == "knn":
            return knn
        return Choice("pair", k, factor, _shares(_terms(knn, "pair", seen, settings)))
    if predictor == "infini":
        terms = _terms(Choice("infini"), "infini", seen, settings)
        is_single = _followed_by_one(seen, settings)
        single, several = (_shares(terms[rows])[1] if rows.any() else 0.0 for rows in (is_single, ~is_single))
        return Choice("infini", shares=(1 - max(single, several), single, several))
    return Choice("ngram", shares=_shares(_terms(Choice("ngram"), "ngram", seen, settings)))


def logprobs(choice: Choice, seen: Trace, settings: TraceSettings) -> Float[np.ndarray, " n"]:
    """Natural log of what ``choice`` gives to each token that came."""
    if choice.predictor == "lm":
        return seen.lm_gold.astype(np.float64)
    terms = _terms(choice, choice.predictor, seen, settings)
    if choice.predictor == "infini":
        share = np.where(_followed_by_one(seen, settings), choice.shares[1], choice.shares[2])
        given = (1 - share) * terms[:, 0] + share * terms[:, 1]
    else:
        given = terms @ np.asarray(choice.shares)
    found: np.ndarray = np.log(given + _TINY)
    return found


def gate_logprobs(gate: Gate, predictor: str, seen: Trace) -> Float[np.ndarray, " n"]:
    """Natural log of what the mixture under ``gate`` gives to each token that came."""
    left_out = GATED[predictor]
    found = np.empty(len(seen.lm_gold))
    for start in range(0, len(found), _AT_ONCE):
        rows = slice(start, start + _AT_ONCE)
        known = Evidence(seen.features[rows], seen.is_present[rows])
        if left_out is not None:
            known = without(known, gate.components, left_out)
        found[rows] = np.log((gate.shares(known) * seen.gold[rows]).sum(axis=1) + _TINY)
    return found


def _best_of_grid(seen: Trace, settings: TraceSettings) -> tuple[int, float, float]:
    """k, factor and share with the highest mean log-probability, of all in the grid; the first among equals."""
    lm = np.exp(seen.lm_gold)
    best = (-np.inf, settings.ks[0], settings.factors[0], 0.0)
    for i, k in enumerate(settings.ks):
        for j, factor in enumerate(settings.factors):
            knn = np.where(seen.has_knn, seen.knn_gold[:, i, j], lm)
            for share in _SHARES.tolist():
                score = float(np.log(lm + np.float32(share) * (knn - lm) + np.float32(_TINY)).mean(dtype=np.float64))
                if score > best[0]:
                    best = (score, k, factor, share)
    return best[1:]


def _terms(choice: Choice, predictor: str, seen: Trace, settings: TraceSettings) -> Float[np.ndarray, "n c"]:
    """What each part gives to the token that came, with the LM in the place of one that is absent."""
    components = settings.components
    lm = np.exp(seen.lm_gold.astype(np.float64))
    columns = [lm]
    if predictor in {"knn", "pair"}:
        grid = seen.knn_gold[:, settings.ks.index(choice.k), settings.factors.index(choice.factor)]
        columns.append(np.where(seen.has_knn, grid, lm))
    if predictor in {"infini", "ngram", "pair"}:
        given, there = seen.gold[:, components.ngram], seen.is_present[:, components.ngram]
        n_columns = 1 if predictor == "infini" else len(components.limits)
        columns += [np.where(there[:, m], given[:, m], lm) for m in range(n_columns)]
    return np.stack(columns, axis=1).astype(np.float64)


def _followed_by_one(seen: Trace, settings: TraceSettings) -> np.ndarray:
    """Where a single token followed the longest suffix, however often."""
    names = feature_index(settings)
    found: np.ndarray = np.round(np.expm1(seen.features[:, names[f"ngram@{settings.components.limits[0]} distinct"]]))
    return found == 1


def feature_index(settings: TraceSettings) -> dict[str, int]:
    """The column of each feature."""
    from silo.evidence import feature_names

    return {name: i for i, name in enumerate(feature_names(settings.components))}


def _shares(terms: Float[np.ndarray, "n c"]) -> tuple[float, ...]:
    """The fixed shares of the columns that maximize the likelihood, by expectation maximization."""
    shares = np.full(terms.shape[1], 1 / terms.shape[1])
    for _ in range(_N_STEPS):
        owed = terms * shares
        shares = (owed / (owed.sum(axis=1, keepdims=True) + _TINY)).mean(axis=0)
        shares /= shares.sum()
    return tuple(float(share) for share in shares)
