"""What followed the last tokens wherever they stand in the datastore: the ∞-gram, backed off to shorter suffixes.

Pure functions on counts; knows neither models nor stores. The longest suffix of the context that occurs is the best
evidence where it occurs often, and a thin one where it occurs once (Liu et al. 2024, infini-gram, use it alone). So it
is mixed with shorter ones, each a **level**, as Witten and Bell (1991) do: a suffix that occurred *n* times, followed
by *t* different tokens, keeps n / (n + t) of the probability that longer ones left to it, and the shortest keeps all.

    p_∞gram(y) = Σ a_j c_j(y) / n_j        over the levels j, whose shares a_j sum to one

Since it is a sum over occurrences, each of them is owed a_j / n_j of it, exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from silo.mixture import Candidates


@dataclass(frozen=True)
class Level:
    """A suffix of the context that occurs, and what followed it."""

    length: int
    """Tokens of the suffix."""
    n: int
    """Times it occurs; the counts sum to it."""
    tokens: Int[np.ndarray, " t"]
    """That followed, increasing."""
    counts: Int[np.ndarray, " t"]

    def count(self, token: int) -> int:
        """How many times ``token`` followed."""
        at = int(np.searchsorted(self.tokens, token))
        return int(self.counts[at]) if at < len(self.tokens) and self.tokens[at] == token else 0


def levels(
    lengths: Int[np.ndarray, " m"],
    following: Sequence[tuple[Int[np.ndarray, " _"], Int[np.ndarray, " _"]]],
    min_length: int,
) -> tuple[Level, ...]:
    """The distinct suffixes of at least ``min_length`` tokens, the longest first.

    ``lengths`` do not increase; ``following`` has the tokens and counts of each.
    """
    found: list[Level] = []
    for length, (tokens, counts) in zip(lengths.tolist(), following, strict=True):
        if length >= max(min_length, 1) and len(tokens) and (not found or length < found[-1].length):
            found.append(Level(length, int(counts.sum()), tokens, counts))
    return tuple(found)


def level_shares(found: Sequence[Level]) -> Float[np.ndarray, " m"]:
    """What part of p_∞gram each level makes; they sum to one."""
    shares = np.zeros(len(found))
    rest = 1.0
    for i, level in enumerate(found):
        is_last = i == len(found) - 1
        shares[i] = rest if is_last else rest * level.n / (level.n + len(level.tokens))
        rest -= shares[i]
    return shares


def backoff_candidates(found: Sequence[Level]) -> Candidates:
    """p_∞gram of each token that followed any of the levels; empty without levels.

    Whatever followed a suffix followed its shorter ones too, so the last level has all tokens.
    """
    if not found:
        return Candidates(np.empty(0, np.int64), np.empty(0))
    tokens = found[-1].tokens
    probabilities = np.zeros(len(tokens))
    for level, share in zip(found, level_shares(found).tolist(), strict=True):
        probabilities[np.searchsorted(tokens, level.tokens)] += share / level.n * level.counts
    is_proposed = probabilities > 0
    return Candidates(tokens[is_proposed].astype(np.int64), np.log(probabilities[is_proposed]))


def level_masses(token: int, found: Sequence[Level]) -> Float[np.ndarray, " m"]:
    """What part of p_∞gram's mass for ``token`` each level made; they sum to one where any of them proposed it.

    Within a level it is owed to the occurrences that ``token`` followed, in equal parts.
    """
    terms = np.array(
        [share * level.count(token) / level.n for share, level in zip(level_shares(found), found, strict=True)]
    )
    return terms / terms.sum() if terms.any() else np.zeros(len(found))
