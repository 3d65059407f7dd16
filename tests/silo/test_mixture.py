"""Laws of the mixture, of sampling and of the accounting of masses."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from silo.mixture import candidates, interpolate, neighbor_logprobs, token_masses
from silo.sampling import choose, likeliest

VOCABULARY = 12


@st.composite
def situations(draw):
    """An LM's log-probabilities, and neighbors of which some are missing."""
    logits = draw(arrays.arrays(np.float64, VOCABULARY, elements=st.floats(-20, 20)))
    lm = (logits - np.logaddexp.reduce(logits)).astype(np.float32)
    k = draw(st.integers(1, 9))
    distances = draw(arrays.arrays(np.float32, k, elements=st.floats(0, 1e4, width=32)))
    values = draw(arrays.arrays(np.int64, k, elements=st.integers(0, VOCABULARY - 1)))
    n_missing = draw(st.integers(0, k))
    distances = np.sort(distances)
    if n_missing:
        distances[-n_missing:], values[-n_missing:] = np.inf, -1
    return lm, distances, values, draw(st.floats(0.01, 1e3))


@given(situations(), st.floats(0, 1))
def test_the_mixture_is_a_distribution(situation, weight):
    lm, distances, values, temperature = situation
    mixed = interpolate(lm, candidates(values, neighbor_logprobs(distances, temperature)), weight)
    assert np.exp(mixed).sum() == pytest.approx(1, abs=1e-5)
    assert not np.isnan(mixed).any()


@given(situations())
def test_share_0_is_the_lm_and_share_1_is_the_datastore(situation):
    lm, distances, values, temperature = situation
    shares = neighbor_logprobs(distances, temperature)
    proposed = candidates(values, shares)
    assert (interpolate(lm, proposed, 0.0) == lm.astype(np.float64)).all()
    only = np.exp(interpolate(lm, proposed, 1.0))
    if len(proposed.tokens):
        by_hand = np.zeros(VOCABULARY)
        weights = np.where(values >= 0, np.exp(-(distances.astype(float) - float(distances[0])) / temperature), 0)
        np.add.at(by_hand, values[values >= 0], weights[values >= 0])
        assert only == pytest.approx(by_hand / by_hand.sum(), abs=1e-9)
    else:
        assert (interpolate(lm, proposed, 1.0) == lm.astype(np.float64)).all()


@given(situations(), st.floats(0, 0.999), st.integers(0, VOCABULARY - 1))
def test_masses_sum_to_one_and_are_the_terms_of_the_mixture(situation, weight, token):
    lm, distances, values, temperature = situation
    shares = neighbor_logprobs(distances, temperature)
    parametric, proposers, masses = token_masses(token, float(lm[token]), values, shares, weight)
    assert parametric + masses.sum() == pytest.approx(1)
    assert (values[proposers] == token).all()
    probability = np.exp(interpolate(lm, candidates(values, shares), weight)[token])
    effective = weight if np.isfinite(shares).any() else 0.0
    assert masses * probability == pytest.approx(effective * np.exp(shares[proposers]), rel=1e-6, abs=1e-12)


@given(situations(), st.floats(0.05, 1), st.floats(0.1, 3), st.floats(0, 0.999999))
def test_top_p_never_picks_outside_the_nucleus(situation, top_p, temperature, u):
    lm = situation[0].astype(np.float64)
    token = choose(lm, temperature, top_p, u)
    scaled = np.exp(lm / temperature)
    scaled /= scaled.sum()
    assert scaled[scaled > scaled[token]].sum() < top_p + 1e-9


def test_greedy_takes_the_lowest_id_among_equals():
    assert choose(np.log([0.2, 0.4, 0.4]), 0.0, 1.0, 0.99) == 1


def test_sampling_follows_the_distribution():
    logprobs = np.log([0.1, 0.2, 0.7])
    draws = [choose(logprobs, 1.0, 1.0, u) for u in (np.arange(1000) + 0.5) / 1000]
    assert np.bincount(draws).tolist() == [100, 200, 700]


def test_a_token_of_probability_zero_is_never_drawn():
    with np.errstate(divide="ignore"):
        logprobs = np.log([0.0, 0.5, 0.5, 0.0])
    assert {choose(logprobs, 1.0, p, u) for p in (0.9, 1.0) for u in (0.0, 0.5, 0.999999999)} <= {1, 2}


def test_the_likeliest_come_first_and_ties_by_id():
    assert [token for token, _ in likeliest(np.log([0.1, 0.3, 0.3, 0.3]), 2)] == [1, 2]
    assert likeliest(np.log([0.5, 0.5]), 0) == ()
    assert len(likeliest(np.log([0.5, 0.5]), 5)) == 2
