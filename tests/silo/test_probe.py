"""The probe says what the datastore still does for a text."""

import math

import numpy as np
import pytest

from datastore.optout import opt_out
from silo.errors import BadRequest
from silo.generation import Silo
from silo.mixture import Proposal, candidates, interpolate, neighbor_logprobs
from silo.probe import probe, token_ids
from silo.settings import DEFAULT_KNN_SHARE, KnnSettings


@pytest.fixture
def joined(llama, manual, build) -> Silo:
    return Silo(llama, build(llama, manual(0, 6, "LicenseRef-test", characters=500)))


def test_a_text_is_likelier_while_it_is_stored_and_not_after_its_removal(joined, build, llama, manual, now):
    page = manual(2, 3, "LicenseRef-test", characters=500)[0]
    before = probe(joined, page.text)
    assert before.gain > 1.0  # the control
    opt_out(joined.datastore, page.id, now=now)
    after = probe(joined, page.text)
    pages = [other for other in manual(0, 6, "LicenseRef-test", characters=500) if other.id != page.id]
    never = probe(Silo(llama, build(llama, pages)), page.text)
    assert (after.lm_logprob, after.mixture_logprob) == (never.lm_logprob, never.mixture_logprob)
    assert after.gain < before.gain - 1.0
    assert (after.n_tokens, after.lm_logprob) == (before.n_tokens, before.lm_logprob)


def test_the_numbers_are_those_of_decoding_token_by_token(joined, manual):
    text = manual(1, 2, "LicenseRef-test", characters=120)[0].text
    lm, store, knn = joined.lm, joined.datastore, KnnSettings()
    ids = token_ids(lm, text)
    decoder, read, alone, mixed = lm.decoder(), [lm.opening], [], []
    for token in ids:
        context, logprobs = decoder.read(read)
        logprobs = logprobs.numpy()
        found = store.search(context.float().numpy()[None], knn.k, knn.n_probe)
        shares = neighbor_logprobs(found.squared_distances[0], store.manifest.knn_temperature)
        alone.append(logprobs[token])
        mixed.append(interpolate(logprobs, [Proposal(candidates(found.values[0], shares), DEFAULT_KNN_SHARE)])[token])
        read = [token]
    found = probe(joined, text)
    assert math.isclose(found.lm_logprob, np.mean(alone), abs_tol=1e-3)
    assert math.isclose(found.mixture_logprob, np.mean(mixed), abs_tol=1e-2)


def test_without_weight_the_datastore_adds_nothing_and_a_long_text_is_read_to_its_end(joined, manual):
    text = manual(7, 8, "LicenseRef-test", characters=3000)[0].text
    found = probe(joined, text, KnnSettings(weight=0.0))
    assert found.gain == 0.0 and found.n_tokens == len(token_ids(joined.lm, text)) > 3 * joined.lm.context_length


def test_what_cannot_be_probed_is_refused(joined):
    with pytest.raises(BadRequest, match="at least one token"):
        probe(joined, "")
    with pytest.raises(BadRequest, match="name a datastore"):
        probe(Silo(joined.lm), "text")
