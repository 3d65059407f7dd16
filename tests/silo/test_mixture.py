"""Laws of the mixture, of sampling and of the accounting of masses."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from silo.mixture import (
    Candidates,
    Proposal,
    candidates,
    interpolate,
    neighbor_logprobs,
    neighbor_masses,
    token_masses,
)
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


@st.composite
def counted(draw):
    """What another predictor proposes: tokens with counts, or nothing."""
    counts = draw(st.dictionaries(st.integers(0, VOCABULARY - 1), st.integers(1, 50), max_size=4))
    total = sum(counts.values())
    tokens = np.array(sorted(counts), dtype=np.int64)
    return Candidates(tokens, np.log(np.array([counts[token] / total for token in sorted(counts)], dtype=np.float64)))


@st.composite
def shares(draw):
    """Of two predictors; what they leave is the LM's."""
    first = draw(st.floats(0, 1))
    return first, draw(st.floats(0, 1)) * (1 - first)


def proposed(situation, weight: float) -> Proposal:
    _, distances, values, temperature = situation
    return Proposal(candidates(values, neighbor_logprobs(distances, temperature)), weight)


@given(situations(), counted(), shares())
def test_the_mixture_is_a_distribution(situation, other, weights):
    mixed = interpolate(situation[0], [proposed(situation, weights[0]), Proposal(other, weights[1])])
    assert np.exp(mixed).sum() == pytest.approx(1, abs=1e-5)
    assert not np.isnan(mixed).any()


@given(situations(), counted(), shares())
def test_the_mixture_is_the_sum_of_its_terms_and_a_silent_predictor_leaves_its_share_to_the_lm(
    situation, other, weights
):
    lm, knn = situation[0], proposed(situation, weights[0])
    by_hand, given_away = np.zeros(VOCABULARY), 0.0
    for part, weight in ((knn.candidates, weights[0]), (other, weights[1])):
        if len(part.tokens):
            given_away += weight
            by_hand[part.tokens] += weight * np.exp(part.logprobs)
    by_hand += (1 - given_away) * np.exp(lm.astype(np.float64))
    assert np.exp(interpolate(lm, [knn, Proposal(other, weights[1])])) == pytest.approx(by_hand, abs=1e-12)


@given(situations(), counted(), st.floats(0, 0.999))
def test_a_token_that_nobody_proposes_keeps_its_lm_probability_times_the_lms_share(situation, other, weight):
    mixed = interpolate(situation[0], [Proposal(other, weight)])
    rest = np.setdiff1d(np.arange(VOCABULARY), other.tokens)
    share = math.log1p(-weight) if len(other.tokens) and weight else 0.0
    assert (mixed[rest] == situation[0][rest].astype(np.float64) + share).all()


@given(situations())
def test_share_0_is_the_lm_and_share_1_is_the_datastore(situation):
    lm, distances, values, temperature = situation
    assert (interpolate(lm, [proposed(situation, 0.0)]) == lm.astype(np.float64)).all()
    assert (interpolate(lm, []) == lm.astype(np.float64)).all()
    only = np.exp(interpolate(lm, [proposed(situation, 1.0)]))
    if (values >= 0).any():
        by_hand = np.zeros(VOCABULARY)
        weights = np.where(values >= 0, np.exp(-(distances.astype(float) - float(distances[0])) / temperature), 0)
        np.add.at(by_hand, values[values >= 0], weights[values >= 0])
        assert only == pytest.approx(by_hand / by_hand.sum(), abs=1e-9)
    else:
        assert (interpolate(lm, [proposed(situation, 1.0)]) == lm.astype(np.float64)).all()


@given(situations(), counted(), shares(), st.integers(0, VOCABULARY - 1))
def test_masses_sum_to_one_and_are_the_terms_of_the_mixture(situation, other, weights, token):
    lm = situation[0]
    proposals = [proposed(situation, weights[0]), Proposal(other, weights[1])]
    parametric, masses = token_masses(token, float(lm[token]), proposals)
    assert parametric + sum(masses) == pytest.approx(1)
    probability = np.exp(interpolate(lm, proposals)[token])
    for mass, proposal in zip(masses, proposals, strict=True):
        term = proposal.weight * np.exp(proposal.candidates.logprob(token))
        assert mass * probability == pytest.approx(term, rel=1e-6, abs=1e-12)


@given(situations(), st.integers(0, VOCABULARY - 1))
def test_neighbors_share_the_mass_of_a_token_by_their_kernels(situation, token):
    _, distances, values, temperature = situation
    log_shares = neighbor_logprobs(distances, temperature)
    proposers, parts = neighbor_masses(token, values, log_shares)
    assert (values[proposers] == token).all()
    assert set(proposers.tolist()) == set(np.flatnonzero(values == token).tolist())
    if len(proposers):
        assert parts.sum() == pytest.approx(1)
        kernels = np.exp(-(distances[proposers].astype(float) - float(distances[proposers][0])) / temperature)
        assert parts == pytest.approx(kernels / kernels.sum(), rel=1e-6, abs=1e-12)


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
