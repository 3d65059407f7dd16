"""Laws of the back-off: what followed longer and shorter suffixes, as one distribution."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from silo.backoff import Level, backoff_candidates, level_masses, level_shares, levels


def level(length: int, **counts: int) -> Level:
    tokens = sorted(int(name[1:]) for name in counts)
    return Level(length, sum(counts.values()), np.array(tokens), np.array([counts[f"t{token}"] for token in tokens]))


@st.composite
def chains(draw):
    """Levels as a store gives them: whatever followed a suffix followed its shorter ones, at least as often."""
    counts: dict[int, int] = {}
    found = []
    for length in range(draw(st.integers(1, 5)), 0, -1):
        for token, more in draw(st.dictionaries(st.integers(0, 9), st.integers(1, 99), max_size=4)).items():
            counts[token] = counts.get(token, 0) + more
        if counts:
            tokens = np.array(sorted(counts))
            found.append(
                Level(length, sum(counts.values()), tokens, np.array([counts[token] for token in sorted(counts)]))
            )
    return tuple(found)


@given(chains())
def test_the_back_off_is_a_distribution_over_what_followed(chain):
    proposed = backoff_candidates(chain)
    if chain:
        assert np.exp(proposed.logprobs).sum() == pytest.approx(1)
        assert level_shares(chain).sum() == pytest.approx(1)
        assert proposed.tokens.tolist() == chain[-1].tokens.tolist()
    else:
        assert len(proposed.tokens) == 0


@given(chains(), st.integers(0, 9))
def test_an_occurrence_is_owed_its_part_of_each_level_that_it_belongs_to(chain, token):
    parts = level_masses(token, chain)
    terms = [share * one.count(token) / one.n for share, one in zip(level_shares(chain), chain, strict=True)]
    if sum(terms):
        assert parts.sum() == pytest.approx(1)
        assert parts * np.exp(backoff_candidates(chain).logprob(token)) == pytest.approx(np.array(terms))
    else:
        assert not parts.any()


def test_a_suffix_keeps_n_of_n_plus_t_and_the_shortest_the_rest():
    chain = (level(5, t1=1), level(3, t1=2, t2=1), level(2, t1=4, t2=3, t3=3))
    assert level_shares(chain) == pytest.approx([1 / 2, 1 / 2 * 3 / 5, 1 / 2 * 2 / 5])
    probability = np.exp(backoff_candidates(chain).logprob(1))
    assert probability == pytest.approx(1 / 2 + 0.3 * 2 / 3 + 0.2 * 4 / 10)


def test_a_suffix_that_was_seen_often_with_one_continuation_is_believed():
    assert level_shares((level(5, t1=99), level(2, t1=99, t2=99)))[0] == pytest.approx(0.99)


def test_limits_that_find_the_same_suffix_are_one_level_and_short_ones_none():
    followed = [(np.array([1]), np.array([2]))] * 3 + [(np.array([1, 2]), np.array([2, 2]))]
    found = levels(np.array([3, 3, 2, 1]), followed, 2)
    assert [one.length for one in found] == [3, 2]
    nothing = (np.empty(0, np.int64), np.empty(0, np.int64))
    assert levels(np.array([0, 0]), [nothing, nothing], 1) == ()
