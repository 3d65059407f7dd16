"""The gate learns whom to trust, from licensed text alone."""

import dataclasses

import numpy as np
import pytest

from silo.documents import Document
from silo.errors import BadDocument, BadRequest
from silo.evaluation.traces import Trace
from silo.evaluation.tuning import gate_logprobs
from silo.evidence import Components, feature_names
from silo.gate import Gate
from silo.gate_fitting import FitSettings, _drawn, check_licensed, fit_gate

COMPONENTS = Components(k=4, temperatures=(1.0,), limits=(8,))
NAMES = feature_names(COMPONENTS)
SETTINGS = FitSettings(n_hidden=8, n_epochs=12, batch_size=128)


def made_trace(seed=0, n=3000, n_documents=10):
    """Neighbors are right where the nearest is near, suffixes where they are long, and the LM elsewhere."""
    random = np.random.default_rng(seed)
    features = random.normal(0, 1, (n, len(NAMES))).astype(np.float32)
    is_near = features[:, NAMES.index("knn nearest")] < -0.3
    is_long = features[:, NAMES.index("ngram length")] > 0.5
    gold = np.full((n, 3), 0.05, np.float32)
    gold[is_near, 1] = 0.9
    gold[is_long, 2] = 0.8
    gold[~is_near & ~is_long, 0] = 0.5
    present = np.ones((n, 3), dtype=bool)
    present[:50, 1:] = False
    gold[~present] = 0
    sizes = np.full(n_documents, n // n_documents)
    grid = np.zeros((n, 1, 1), np.float32)
    return Trace(np.log(gold[:, 0]), grid, present[:, 1], gold, features, present, sizes, sizes, sizes)


@pytest.fixture(scope="module")
def fitted():
    return fit_gate(made_trace(), COMPONENTS, "encoder", ({"id": "a", "digest": "b", "license": "MIT"},), SETTINGS)


def test_a_gate_learns_whom_to_trust_where(fitted):
    unseen = made_trace(seed=1)
    equal = np.log(unseen.gold.mean(axis=1)).mean()
    best = max(np.log(unseen.gold @ np.array(w)).mean() for w in ((0.4, 0.3, 0.3), (0.2, 0.5, 0.3), (0.3, 0.2, 0.5)))
    found = gate_logprobs(fitted, "gate", unseen)[50:].mean()
    assert found > max(equal, best) + 0.15
    assert found < np.log(unseen.gold.max(axis=1)).mean() + 1e-6


def test_a_gate_holds_where_one_kind_of_retrieval_is_left_out(fitted):
    unseen = made_trace(seed=2)
    for predictor, column in (("gate-knn", 1), ("gate-ngram", 2)):
        halves = np.log(unseen.gold[:, [0, column]].mean(axis=1)).mean()
        assert gate_logprobs(fitted, predictor, unseen).mean() > halves + 0.02


def test_the_same_seed_gives_the_same_gate_and_it_says_what_made_it(fitted, tmp_path):
    again = fit_gate(made_trace(), COMPONENTS, "encoder", fitted.facts.trained_on, SETTINGS)
    assert (again.first == fitted.first).all()
    other = fit_gate(made_trace(), COMPONENTS, "encoder", (), dataclasses.replace(SETTINGS, seed=1))
    assert (other.first != fitted.first).any()
    fitted.save(tmp_path / "gate")
    loaded = Gate.load(tmp_path / "gate")
    assert loaded.facts.encoder == "encoder"
    assert loaded.facts.trained_on == ({"id": "a", "digest": "b", "license": "MIT"},)
    assert loaded.facts.settings["seed"] == 0


def test_the_epoch_with_the_lowest_loss_on_held_out_documents_is_kept():
    told = []
    random = np.random.default_rng(4)
    noise = dataclasses.replace(made_trace(n=300), gold=random.random((300, 3)).astype(np.float32))
    settings = dataclasses.replace(SETTINGS, n_hidden=32, n_epochs=60, batch_size=32, held_out_share=0.5)
    gate = fit_gate(noise, COMPONENTS, "", (), settings, 1, lambda *losses: told.append(losses[2]))
    assert gate.facts.settings["held_out_loss"] == min(told) < told[-1] - 0.02  # it learned the noise by then
    is_held_out = _drawn(noise, settings, 1, np.random.default_rng(settings.seed))
    assert -gate_logprobs(gate, "gate", noise)[is_held_out].mean() == pytest.approx(min(told), abs=1e-5)


def test_a_document_is_held_out_with_every_store_or_with_none():
    is_held_out = _drawn(made_trace(n_documents=10), SETTINGS, 2, np.random.default_rng(0)).reshape(10, -1)
    assert (is_held_out == is_held_out[:, :1]).all()
    assert (is_held_out[:5] == is_held_out[5:]).all() and 0 < is_held_out[:5, 0].sum() < 5


def test_one_document_cannot_teach_a_gate():
    with pytest.raises(BadRequest, match="others to stop by"):
        fit_gate(made_trace(n_documents=1), COMPONENTS, "", (), SETTINGS)


def test_high_risk_text_teaches_no_gate_whether_asked_or_stored(llama, build, manual):
    licensed, risky = manual(50, 52, "PSF-2.0"), manual(52, 53, "GPL-3.0-only")
    asked = manual(60, 62, "CC0-1.0")
    rows = check_licensed(asked, [build(llama, licensed)])
    assert [row["id"] for row in rows] == [d.id for d in [*asked, *licensed]]
    with pytest.raises(BadDocument, match="high-risk: copyleft"):
        check_licensed(risky, [build(llama, licensed)])
    with pytest.raises(BadDocument, match="high-risk: copyleft"):
        check_licensed(asked, [build(llama, licensed), build(llama, risky)])


def test_a_document_that_is_stored_is_not_asked(llama, build, manual):
    stored = manual(50, 52, "PSF-2.0")
    copied = Document("another name", stored[1].text, "PSF-2.0")
    with pytest.raises(BadDocument, match="'another name' is in the store"):
        check_licensed([copied], [build(llama, stored)])


def test_settings_out_of_range_are_refused():
    with pytest.raises(BadRequest, match="weight_decay"):
        FitSettings(weight_decay=-1.0)
