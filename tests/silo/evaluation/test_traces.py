import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datastore.optout import opt_out
from datastore.records import Neighbors
from silo.documents import Document
from silo.errors import BadRequest
from silo.evaluation import traces as module
from silo.evaluation.likelihood import token_logprobs
from silo.evaluation.traces import TraceSettings, grid, joined, trace, traces
from silo.evidence import Components, evidence, feature_names, gold_probabilities, neighbor_shares
from silo.recent import Recollection
from silo.tokenizer import tokenize

SETTINGS = TraceSettings(Components(k=6, temperatures=(1.0, 2.0), limits=(9, 2)), ks=(2, 6, 12), factors=(0.5, 1.0))


@pytest.fixture
def store(llama, build, manual):
    return build(llama, manual(50, 56, "GPL-3.0-only"))


@pytest.fixture
def asked(manual):
    return manual(60, 63, "GPL-3.0-only", characters=400)


@given(st.integers(0, 1 << 30))
def test_the_grid_is_p_knn_for_each_k_and_temperature(seed):
    random = np.random.default_rng(seed)
    distances = np.sort(random.integers(0, 30, (4, 12)).astype(np.float32), axis=1)
    values = random.integers(0, 3, (4, 12))
    for row, n_missing in enumerate(random.integers(0, 13, 4)):
        if n_missing:
            distances[row, -n_missing:], values[row, -n_missing:] = np.inf, -1
    gold = random.integers(0, 3, 4)
    ks, temperatures = (1, 4, 12), (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
    found = grid(Neighbors(distances, np.zeros_like(values), values, 0), gold, ks, temperatures)
    for i, k in enumerate(ks):
        for j, temperature in enumerate(temperatures):
            shares = neighbor_shares(distances[:, :k], temperature)
            assert found[:, i, j] == pytest.approx((shares * (values[:, :k] == gold[:, None])).sum(axis=1), abs=1e-5)


def test_a_trace_is_what_single_positions_give_in_decoding(llama, store, asked, monkeypatch):
    monkeypatch.setattr(module, "_AT_ONCE", 7)  # so that windows are read in several pieces
    recollection = Recollection(store, SETTINGS.components.limits)
    for document in asked:
        found = trace(llama, store, document, SETTINGS)
        tokens = np.append(tokenize(llama.tokenizer, document.text).ids, llama.boundary)
        assert found.lengths.tolist() == [len(tokens)]
        assert found.n_bytes.tolist() == [len(document.text.encode())]
        assert found.n_words.tolist() == [len(document.text.split())]
        assert found.lm_gold == pytest.approx(token_logprobs(llama, tokens), abs=1e-5)
        decoder = llama.decoder()
        for i in range(min(40, len(tokens))):  # within the first window the decoder sees the same context
            context, logprobs = decoder.read([llama.opening] if i == 0 else [int(tokens[i - 1])])
            neighbors = store.search(context[None].numpy(), 12, SETTINGS.n_probe)
            following = store.continuations([tokens[:i]], SETTINGS.components.limits)
            rows, tau = logprobs[None].numpy(), store.manifest.knn_temperature
            recent = recollection.features([tokens[:i].tolist()], following)
            known = evidence(SETTINGS.components, rows, neighbors, following, tau, recent)
            assert found.features[i] == pytest.approx(known.features[0], abs=2e-2)
            assert (found.is_present[i] == known.is_present[0]).all()
            gold = tokens[i : i + 1].astype(np.int64)
            lm_gold = rows[:, gold[0]]
            given_ = gold_probabilities(SETTINGS.components, gold, lm_gold, neighbors, following, tau)
            assert found.gold[i] == pytest.approx(given_[0], abs=2e-2)


def test_without_a_store_there_is_only_the_lm(llama, asked):
    found = trace(llama, None, asked[0], SETTINGS)
    assert found.is_present.sum() == len(found.lm_gold)
    assert not found.knn_gold.any()
    assert found.features.shape[1] == len(feature_names(SETTINGS.components))


def test_neighbors_alone_are_seen_as_with_everything_else(llama, store, asked):
    whole = trace(llama, store, asked[0], SETTINGS)
    alone = trace(llama, store, asked[0], dataclasses.replace(SETTINGS, is_knn_only=True))
    assert (alone.knn_gold == whole.knn_gold).all() and (alone.lm_gold == whole.lm_gold).all()
    assert alone.gold.shape[1] == 1 and alone.features.shape[1] == 0


def test_a_cached_trace_is_the_same_and_is_not_made_again(llama, store, asked, tmp_path, monkeypatch):
    first = joined(list(traces(llama, store, iter(asked), SETTINGS, tmp_path)))
    monkeypatch.setattr(module, "trace", lambda *_: pytest.fail("a trace was made again"))
    again = joined(list(traces(llama, store, iter(asked), SETTINGS, tmp_path)))
    for name in first.__dataclass_fields__:
        assert (getattr(first, name) == getattr(again, name)).all()
    assert first.documents.tolist() == np.repeat([0, 1, 2], first.lengths).tolist()


def test_a_torn_trace_is_made_again(llama, store, asked, tmp_path):
    whole = joined(list(traces(llama, store, iter(asked), SETTINGS, tmp_path)))
    torn = next(tmp_path.rglob("*.safetensors"))
    torn.write_bytes(torn.read_bytes()[:-5])
    again = joined(list(traces(llama, store, iter(asked), SETTINGS, tmp_path)))
    assert (whole.gold == again.gold).all()


def test_no_trace_that_knows_a_removed_document_outlives_it(llama, store, asked, tmp_path, now):
    before = joined(list(traces(llama, store, iter(asked), SETTINGS, tmp_path)))
    old = set(tmp_path.rglob("*.safetensors"))
    opt_out(store, next(store.documents()).facts.id, now=now)
    after = joined(list(traces(llama, store, iter(asked), SETTINGS, tmp_path)))
    assert (before.gold != after.gold).any()
    assert old and not any(path.exists() for path in old)


def test_scores_are_sums_by_document(llama, store, asked):
    alone = [trace(llama, store, document, SETTINGS) for document in asked]
    together = joined(alone)
    scores = together.scores(together.lm_gold)
    assert [s.nats for s in scores] == pytest.approx([-one.lm_gold.sum(dtype=float) for one in alone])
    assert [s.n_tokens for s in scores] == [len(one.lm_gold) for one in alone]


@pytest.mark.parametrize(
    "settings", [{"ks": ()}, {"ks": (8, 4)}, {"ks": (0, 4)}, {"factors": ()}, {"factors": (1.0, 3.0)}]
)
def test_a_grid_that_cannot_be_summed_is_refused(settings):
    with pytest.raises(BadRequest):
        TraceSettings(**settings)


def test_no_documents_are_an_error():
    with pytest.raises(BadRequest, match="at least one"):
        joined([])


def test_a_document_without_text_has_its_end(llama, store):
    assert trace(llama, store, Document("empty", "", "CC0-1.0"), SETTINGS).lengths.tolist() == [1]
