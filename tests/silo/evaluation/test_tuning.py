import dataclasses
import itertools

import numpy as np
import pytest

from silo.errors import BadRequest
from silo.evaluation.traces import Trace, TraceSettings
from silo.evaluation.tuning import GATED, TUNED, Choice, gate_logprobs, logprobs, tune
from silo.evidence import Components, feature_names
from silo.gate import Gate, GateFacts

COMPONENTS = Components(k=4, temperatures=(1.0,), limits=(8, 2))
SETTINGS = TraceSettings(COMPONENTS, ks=(2, 4), factors=(0.5, 1.0))
N_FEATURES = len(feature_names(COMPONENTS))


def made_trace(seed=0, n=400):
    """A made-up trace in which k=4 at half the temperature is best."""
    random = np.random.default_rng(seed)
    present = random.random((n, 4)) < 0.7
    present[:, 0] = True
    lm = random.uniform(0.01, 0.5, n).astype(np.float32)
    grid = random.uniform(0, 0.4, (n, 2, 2)).astype(np.float32)
    grid[:, 1, 0] += 0.3
    grid[~present[:, 1]] = 0
    gold = np.concatenate([lm[:, None], random.uniform(0, 1, (n, 3))], axis=1).astype(np.float32) * present
    features = random.normal(0, 1, (n, N_FEATURES)).astype(np.float32)
    distinct = feature_names(COMPONENTS).index("ngram@8 distinct")
    features[:, distinct] = np.log1p(random.integers(1, 3, n))
    is_single = np.round(np.expm1(features[:, distinct])) == 1
    gold[is_single & present[:, 2], 2] = 0.9
    gold[~is_single & present[:, 2], 2] *= 0.1
    sizes = np.array([100, n - 100])
    return Trace(np.log(lm), grid, present[:, 1], gold, features, present, sizes, sizes * 3, sizes)


@pytest.fixture
def seen():
    return made_trace()


def shares_on_a_grid(n, steps=10):
    """All shares of ``n`` parts in tenths."""
    return [
        tuple(part / steps for part in parts)
        for parts in itertools.product(range(steps + 1), repeat=n)
        if sum(parts) == steps
    ]


def test_the_neighbors_are_tuned_over_the_whole_grid(seen):
    best = tune("knn", seen, SETTINGS)
    assert (best.k, best.factor) == (4, 0.5)
    score = logprobs(best, seen, SETTINGS).mean()
    for k, factor, share in itertools.product((2, 4), (0.5, 1.0), np.linspace(0.05, 0.95, 19)):
        assert score >= logprobs(Choice("knn", k, factor, (1 - share, share)), seen, SETTINGS).mean() - 1e-6


@pytest.mark.parametrize(("predictor", "n"), [("ngram", 3), ("pair", 4)])
def test_fixed_shares_are_the_likeliest_of_all(seen, predictor, n):
    best = tune(predictor, seen, SETTINGS)
    score = logprobs(best, seen, SETTINGS).mean()
    for shares in shares_on_a_grid(n):
        assert score >= logprobs(dataclasses.replace(best, shares=shares), seen, SETTINGS).mean() - 1e-4


def test_the_longest_suffix_has_a_share_where_one_token_followed_and_another_elsewhere(seen):
    best = tune("infini", seen, SETTINGS)
    assert best.shares[1] > best.shares[2] + 0.2
    score = logprobs(best, seen, SETTINGS).mean()
    for single, several in itertools.product(np.linspace(0, 1, 11), repeat=2):
        other = Choice("infini", shares=(0.0, float(single), float(several)))
        assert score >= logprobs(other, seen, SETTINGS).mean() - 1e-4


@pytest.mark.parametrize("predictor", TUNED)
def test_what_is_absent_leaves_its_share_to_the_lm(seen, predictor):
    nothing = dataclasses.replace(
        seen,
        has_knn=np.zeros_like(seen.has_knn),
        knn_gold=np.zeros_like(seen.knn_gold),
        gold=seen.gold * [1, 0, 0, 0],
        is_present=seen.is_present & [True, False, False, False],
    )
    nothing = dataclasses.replace(nothing, gold=nothing.gold.astype(np.float32))
    choice = tune(predictor, seen, SETTINGS)
    assert logprobs(choice, nothing, SETTINGS) == pytest.approx(seen.lm_gold, abs=1e-6)


def test_by_hand(seen):
    choice = Choice("pair", 2, 1.0, (0.4, 0.3, 0.2, 0.1))
    found = logprobs(choice, seen, SETTINGS)
    for i in range(40):
        lm = np.exp(float(seen.lm_gold[i]))
        knn = float(seen.knn_gold[i, 0, 1]) if seen.has_knn[i] else lm
        suffixes = [float(seen.gold[i, c]) if seen.is_present[i, c] else lm for c in (2, 3)]
        assert np.exp(found[i]) == pytest.approx(0.4 * lm + 0.3 * knn + 0.2 * suffixes[0] + 0.1 * suffixes[1])


def test_a_gate_with_equal_shares_gives_the_mean_of_what_is_present(seen):
    zeros = [np.zeros(shape, np.float32) for shape in ((N_FEATURES, 3), 3, (3, 4), 4)]
    scaling = np.zeros(N_FEATURES, np.float32), np.ones(N_FEATURES, np.float32)
    gate = Gate(COMPONENTS, GateFacts("", ()), *scaling, *zeros)
    for predictor, left_out in GATED.items():
        columns = [c for c, name in enumerate(COMPONENTS.names) if left_out is None or not name.startswith(left_out)]
        expected = seen.gold[:, columns].sum(axis=1) / seen.is_present[:, columns].sum(axis=1)
        assert np.exp(gate_logprobs(gate, predictor, seen)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("predictor", ["lm", "gate", "moon"])
def test_what_has_nothing_to_tune_is_not_tuned(seen, predictor):
    with pytest.raises(BadRequest, match="are tuned"):
        tune(predictor, seen, SETTINGS)
