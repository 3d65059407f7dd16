import dataclasses

import numpy as np
import pytest

from datastore.optout import opt_out
from silo.evaluation import counterfactual
from silo.evaluation.counterfactual import falls, most_cited, positions
from silo.evaluation.served import Served
from silo.evaluation.working_copies import working_copy
from silo.evidence import Components, feature_names
from silo.gate import Gate, GateFacts
from silo.settings import GenerationSettings, KnnSettings, NgramSettings

SETTINGS = GenerationSettings(knn=KnnSettings(k=8), ngram=NgramSettings(min_length=1))
ROWS = (tuple(range(2, 40, 3)), tuple(range(1, 40, 4)))


def gate_for(lm) -> Gate:
    components = Components(k=6, temperatures=(0.5, 2.0), limits=(8, 2))
    f, c = len(feature_names(components)), len(components)
    random = np.random.default_rng(0)
    first = np.zeros((f, 2), np.float32)
    first[:3] = random.normal(size=(3, 2))
    second = random.normal(size=(2, c)).astype(np.float32)
    arrays = (np.zeros(f), np.ones(f), first, np.zeros(2), second, np.zeros(c))
    return Gate(components, GateFacts(lm.fingerprint, ()), *(np.asarray(array, np.float32) for array in arrays))


@pytest.fixture
def documents(manual):
    return manual(50, 57, "LicenseRef-test", 220)


@pytest.fixture(params=["fixed", "gate"])
def served(request, llama):
    return Served(llama, SETTINGS, gate_for(llama) if request.param == "gate" else None)


def test_masses_sum_to_one_and_a_source_that_leaves_takes_its_mass_along(served, build, llama, documents, now):
    store = build(llama, documents)
    readings = [served.read(documents[1], 40), served.read(dataclasses.replace(documents[4], id="copy"), 40)]
    looked = positions(served, store, readings, ROWS)
    assert len(looked) == len(ROWS[0]) + len(ROWS[1])
    assert max(abs(one.total_mass - 1) for one in looked) < 1e-9
    assert all({source.document for source in one.trace.sources} <= one.heard for one in looked)
    gone = most_cited(looked, 2)
    assert set(gone) == {documents[1].id, documents[4].id}, "the texts themselves are stored"
    with working_copy(store) as copy:
        found = list(falls(served, copy, readings, ROWS, [*gone, documents[6].id], now=now))
    assert len(found) == 3 * len(looked)
    cited = [one for one in found if one.cited > 1e-3 and one.unnamed == 0]
    assert len(cited) >= 10 and max(one.before * one.cited for one in cited) > 0.2
    for one in found:
        assert one.deviation < 1e-9
        if one.unnamed == 0:
            assert one.held == pytest.approx(one.before * one.cited, abs=1e-9)
        if not one.is_heard:
            assert one.cited == 0 and one.served == 0
    assert sum(not one.is_heard for one in found) >= 5
    assert any(one.served != pytest.approx(one.held, abs=1e-4) for one in cited), "others move up"


def test_a_mass_that_is_not_what_left_is_found_out(llama, build, documents, now, monkeypatch):
    """The control: another document leaves than the one whose mass is compared."""
    served, store = Served(llama, SETTINGS), build(llama, documents)
    reading, rows = served.read(documents[1], 40), ROWS[:1]
    monkeypatch.setattr(counterfactual, "opt_out", lambda copy, _, now: opt_out(copy, documents[1].id, now=now))
    with working_copy(store) as copy:
        found = list(falls(served, copy, [reading], rows, [documents[0].id], now=now))
    assert max(one.deviation for one in found) > 0.1
    assert any(not one.is_heard and one.served > 0.1 for one in found)
