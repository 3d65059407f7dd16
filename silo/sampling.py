"""Choosing a token from a distribution. Pure: the randomness arrives as a number."""

import numpy as np
from jaxtyping import Float


def choose(logprobs: Float[np.ndarray, " vocabulary"], temperature: float, top_p: float, u: float) -> int:
    """The token that ``u``, uniform in [0, 1), picks; at temperature 0 the likeliest, the lowest id among equals.

    ``top_p`` keeps the fewest likeliest tokens whose probability, after temperature, reaches it
    (Holtzman et al. 2020).
    """
    if temperature == 0:
        return int(np.argmax(logprobs))
    with np.errstate(over="ignore"):  # at a temperature close to 0 all but the likeliest fall to minus infinity
        scaled = (logprobs - logprobs.max()) / temperature
    weights = np.exp(scaled)
    weights /= weights.sum()
    if top_p >= 1:
        return pick(weights, u)
    order = np.argsort(-weights, kind="stable")
    cumulative = np.cumsum(weights[order])
    n = int(np.searchsorted(cumulative, top_p, side="left")) + 1
    return int(
        order[min(int(np.searchsorted(cumulative[:n], u * cumulative[min(n, len(order)) - 1], side="right")), n - 1)]
    )


def pick(weights: Float[np.ndarray, " n"], u: float) -> int:
    """An index, each with a probability in proportion to its weight; one of weight zero never."""
    cumulative = np.cumsum(weights)
    return min(int(np.searchsorted(cumulative, u * cumulative[-1], side="right")), int(np.flatnonzero(weights)[-1]))


def likeliest(logprobs: Float[np.ndarray, " vocabulary"], n: int) -> tuple[tuple[int, float], ...]:
    """The ``n`` likeliest tokens with their log-probabilities, likeliest first, ties by id."""
    if n == 0:
        return ()
    n = min(n, len(logprobs))
    threshold = np.partition(logprobs, -n)[-n]
    among = np.flatnonzero(logprobs >= threshold)
    best = among[np.argsort(-logprobs[among], kind="stable")][:n]
    return tuple((int(token), float(logprobs[token])) for token in best)
