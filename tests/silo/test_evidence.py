"""The features and the components' probabilities, held against plain loops over one position."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datastore.records import Continuations, Neighbors
from silo.evidence import Components, evidence, feature_names, gold_probabilities, neighbor_shares, without
from silo.recent import gold_counts, recent_names

VOCABULARY = 9
COMPONENTS = Components(k=4, temperatures=(1.0, 3.0), limits=(8, 2))
TAU = 2.5


@st.composite
def situations(draw):
    """An LM's log-probabilities, neighbors with some missing, and continuations with some empty."""
    n = draw(st.integers(1, 5))
    random = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    logits = random.normal(0, 3, (n, VOCABULARY))
    lm = (logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)).astype(np.float32)
    width = draw(st.integers(1, 6))
    distances = np.sort(random.integers(0, 9, (n, width)).astype(np.float32), axis=1)
    values = random.integers(0, VOCABULARY, (n, width))
    for row, n_missing in enumerate(random.integers(0, width + 1, n)):
        if n_missing:
            distances[row, -n_missing:], values[row, -n_missing:] = np.inf, -1
    neighbors = Neighbors(distances, np.zeros_like(values), values, 1)
    followers = [random.integers(0, VOCABULARY, random.integers(0, 6)) for _ in range(n * 2)]
    distinct = [np.unique(tokens, return_counts=True) for tokens in followers]
    following = Continuations(
        lengths=np.array([len(tokens) for tokens in followers]).reshape(n, 2),
        counts=np.array([len(tokens) for tokens in followers]).reshape(n, 2),
        bounds=np.cumsum([0, *(len(tokens) for tokens, _ in distinct)]),
        tokens=np.concatenate([tokens for tokens, _ in distinct]),
        token_counts=np.concatenate([counts for _, counts in distinct]),
        epoch=1,
    )
    return lm, neighbors, following


def recent(n):
    """Features of the tokens before, of any values."""
    return np.random.default_rng(n).random((n, len(recent_names(COMPONENTS.limits)))).astype(np.float32)


def by_hand(lm, neighbors, following, row):
    """The features of one position, by their names."""
    probabilities = np.exp(lm[row].astype(float))
    lm_top = int(lm[row].argmax())
    facts = {"lm entropy": -(probabilities * lm[row]).sum(), "lm max": lm[row].max()}
    distances, values = neighbors.squared_distances[row, :4], neighbors.values[row, :4]
    near = {}
    for distance, value in zip(distances.astype(float), values.tolist(), strict=True):
        if np.isfinite(distance):
            near[value] = near.get(value, 0.0) + np.exp((float(distances[0]) - distance) / TAU)
    near = {token: share / sum(near.values()) for token, share in near.items()}
    knn_top = max(sorted(near), key=near.__getitem__, default=-1)
    finite = distances[np.isfinite(distances)]
    facts["knn nearest"] = np.log1p(finite[0] / TAU) if near else 0
    facts["knn spread"] = np.log1p((finite[-1] - finite[0]) / TAU) if near else 0
    facts["knn entropy"] = -sum(share * np.log(share) for share in near.values())
    facts["knn max"] = max(near.values(), default=0)
    facts["knn distinct"] = np.log1p(len(near))
    facts["knn top lm"] = lm[row, knn_top] if near else 0
    facts["knn top is lm top"] = knn_top == lm_top
    facts["ngram length"] = np.log1p(following.lengths[row, 0])
    for m, limit in enumerate(COMPONENTS.limits):
        tokens, counts = following.following(row, m)
        facts[f"ngram@{limit} count"] = np.log1p(counts.sum())
        facts[f"ngram@{limit} distinct"] = np.log1p(len(tokens))
        top = int(tokens[counts.argmax()]) if len(tokens) else -1
        facts[f"ngram@{limit} max"] = counts.max() / counts.sum() if len(tokens) else 0
        facts[f"ngram@{limit} top lm"] = lm[row, top] if len(tokens) else 0
        facts[f"ngram@{limit} top knn"] = near.get(top, 0) if len(tokens) else 0
        facts[f"ngram@{limit} top is lm top"] = len(tokens) > 0 and top == lm_top
        facts[f"ngram@{limit} top is knn top"] = len(tokens) > 0 and top == knn_top
    return facts | dict(zip(recent_names(COMPONENTS.limits), recent(len(lm))[row].tolist(), strict=True))


@given(situations())
def test_features_are_those_of_each_position_alone(situation):
    lm, neighbors, following = situation
    found = evidence(COMPONENTS, lm, neighbors, following, TAU, recent(len(lm)))
    for row in range(len(lm)):
        facts = by_hand(lm, neighbors, following, row)
        assert tuple(facts) == feature_names(COMPONENTS)
        assert found.features[row] == pytest.approx(np.array(list(facts.values()), float), abs=2e-5)
        has_knn = np.isfinite(neighbors.squared_distances[row, 0])
        assert found.is_present[row].tolist() == [True, has_knn, has_knn, *(following.counts[row] > 0)]


@given(situations())
def test_each_component_is_a_distribution_where_it_is_present_and_nothing_elsewhere(situation):
    lm, neighbors, following = situation
    present = evidence(COMPONENTS, lm, neighbors, following, TAU).is_present
    n = len(lm)
    totals = np.zeros((n, len(COMPONENTS)))
    for token in range(VOCABULARY):
        gold = np.full(n, token)
        totals += gold_probabilities(COMPONENTS, gold, lm[:, token], neighbors, following, TAU)
    assert totals == pytest.approx(present.astype(float), abs=1e-6)


@given(situations(), st.integers(0, VOCABULARY - 1))
def test_the_probability_of_the_token_that_came_is_a_sum_over_neighbors_and_occurrences(situation, token):
    lm, neighbors, following = situation
    gold = np.full(len(lm), token)
    found = gold_probabilities(COMPONENTS, gold, lm[:, token], neighbors, following, TAU)
    counts = gold_counts(following, gold)
    for row in range(len(lm)):
        for column, factor in ((1, 1.0), (2, 3.0)):
            weights = np.exp(-neighbors.squared_distances[row, :4].astype(float) / (factor * TAU))
            hits = weights[neighbors.values[row, :4] == token].sum()
            assert found[row, column] == pytest.approx(hits / max(weights.sum(), 1e-300))
        for m in range(2):
            tokens, numbers = following.following(row, m)
            assert counts[row, m] == dict(zip(tokens.tolist(), numbers.tolist(), strict=True)).get(token, 0)


@given(situations())
def test_what_is_left_out_is_absent_and_the_rest_unchanged(situation):
    lm, neighbors, following = situation
    whole = evidence(COMPONENTS, lm, neighbors, following, TAU, recent(len(lm)))
    no_knn = evidence(COMPONENTS, lm, None, following, TAU)
    assert not no_knn.is_present[:, COMPONENTS.knn].any()
    assert (no_knn.is_present[:, COMPONENTS.ngram] == whole.is_present[:, COMPONENTS.ngram]).all()
    for kind, left_out in (("knn", (None, following)), ("ngram", (neighbors, None))):
        never_asked = evidence(COMPONENTS, lm, *left_out, TAU, recent(len(lm)) if left_out[1] else None)
        taken_away = without(whole, COMPONENTS, kind)
        assert (taken_away.features == never_asked.features).all()
        assert (taken_away.is_present == never_asked.is_present).all()
    alone = evidence(COMPONENTS, lm, None, None, TAU)
    assert alone.is_present.sum() == len(lm)
    assert (alone.features[:, :2] == whole.features[:, :2]).all()
    assert not alone.features[:, 2:].any()


def test_distances_far_beyond_the_temperature_do_not_underflow_to_nothing():
    far = np.array([[1e9, 1e9, np.inf]], dtype=np.float32)
    assert neighbor_shares(far, 1e-3).tolist() == [[0.5, 0.5, 0.0]]


def test_columns_are_named_in_the_order_of_the_weights():
    assert COMPONENTS.names == ("lm", "knn@1", "knn@3", "ngram@8", "ngram@2")
    assert len(COMPONENTS) == 5
    assert COMPONENTS.names[COMPONENTS.knn] == ("knn@1", "knn@3")
    assert COMPONENTS.names[COMPONENTS.ngram] == ("ngram@8", "ngram@2")
