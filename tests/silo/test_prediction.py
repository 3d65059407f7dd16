"""What a store says of the next token and who is owed for it, on made-up documents that can be counted by hand."""

import dataclasses

import numpy as np
import pytest

from datastore.optout import opt_out
from silo import prediction
from silo.backoff import level_masses, level_shares
from silo.evidence import Components, feature_names
from silo.gate import Gate, GateFacts
from silo.mixture import neighbor_logprobs
from silo.prediction import Prediction, Predictor
from silo.settings import GenerationSettings, KnnSettings, NgramSettings
from tests.conftest import VOCABULARY, lattice_document

N_ENTRIES = 1000
"""As many neighbors as there are entries, and more: so none has to wait for room."""
SETTINGS = GenerationSettings(
    knn=KnnSettings(k=N_ENTRIES, weight=0.4, temperature=3.0), ngram=NgramSettings(weight=0.35, min_length=1)
)


@pytest.fixture
def documents():
    """Of few different tokens, so that runs repeat within and across documents."""
    made = [lattice_document(f"doc-{i}", seed=i, n=20 + i) for i in range(7)]
    return [dataclasses.replace(document, tokens=document.tokens % 4) for document in made]


@pytest.fixture
def histories(documents):
    return [document.tokens[:n].tolist() for document, n in zip(documents, (5, 8, 11, 1, 7, 3, 9), strict=True)]


def lm_logprobs(n: int) -> np.ndarray:
    logits = np.random.default_rng(1).normal(size=(n, VOCABULARY)).astype(np.float32)
    return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)


def predictions(store, histories, queries, settings=SETTINGS, gate=None) -> tuple[Predictor, list[Prediction]]:
    predictor = Predictor(store, settings, gate)
    answers = predictor.ask(queries[: len(histories)], histories)
    return predictor, predictor.predict(answers, lm_logprobs(len(histories)), histories)


def followed(documents, suffix) -> list[tuple[str, int, int]]:
    """Document, position and token of all that followed ``suffix``."""
    found = []
    for document in documents:
        tokens = document.tokens.tolist()
        for i in range(len(suffix), len(tokens)):
            if tokens[i - len(suffix) : i] == list(suffix):
                found.append((document.facts.id, i, tokens[i]))
    return found


def test_ngrams_are_those_that_counting_by_hand_finds(make_store, documents, histories, queries):
    settings = dataclasses.replace(SETTINGS, knn=KnnSettings(weight=0.0))
    _, found = predictions(make_store(documents), histories, queries, settings)
    for history, one in zip(histories, found, strict=True):
        lengths = [level.length for level in one.suffixes[0]]
        longest = max(n for n in range(len(history) + 1) if followed(documents, history[len(history) - n :]))
        assert lengths == sorted({min(longest, limit) for limit in settings.ngram.lengths}, reverse=True)
        for level in one.suffixes[0]:
            by_hand = [token for _, _, token in followed(documents, history[-level.length :])]
            assert level.n == len(by_hand)
            assert level.counts.tolist() == [by_hand.count(token) for token in level.tokens.tolist()]


def test_masses_sum_to_one_and_every_sentence_has_its_part(make_store, documents, histories, queries):
    predictor, found = predictions(make_store(documents), histories, queries)
    n_sources = 0
    for one in found:
        for token in range(5):
            trace = predictor.trace(one, token)
            total = trace.parametric_mass + trace.unnamed_mass + sum(source.mass for source in trace.sources)
            assert total == pytest.approx(1)
            n_sources += len(trace.sources)
    assert n_sources > 50


def test_an_ngram_is_owed_to_the_sentences_in_which_its_last_token_stands(make_store, documents, histories, queries):
    settings = dataclasses.replace(SETTINGS, knn=KnnSettings(weight=0.0))
    predictor, found = predictions(make_store(documents), histories, queries, settings)
    for history, one in zip(histories, found, strict=True):
        for token in range(4):
            trace = predictor.trace(one, token)
            (_, (mass,)) = one.masses(token)
            owed: dict[tuple[str, int], float] = {}
            unnamed = 0.0
            for level, part in zip(one.suffixes[0], level_masses(token, one.suffixes[0]), strict=True):
                places = [p for p in followed(documents, history[-level.length :]) if p[2] == token]
                for name, position, _ in places:
                    document = next(d for d in documents if d.facts.id == name)
                    if position == len(document.tokens) - 1:
                        unnamed += mass * part / len(places)  # the end of a document has no entry
                    else:
                        sentence = int(document.token_sentences[position])
                        owed[name, sentence] = owed.get((name, sentence), 0.0) + mass * part / len(places)
            assert {(s.document, s.sentence): s.mass for s in trace.sources} == pytest.approx(owed)
            assert trace.unnamed_mass == pytest.approx(unnamed)


def test_what_is_not_named_is_said_to_be_unnamed(make_store, documents, histories, queries, monkeypatch):
    monkeypatch.setattr(prediction, "MAX_NAMED", 1)
    settings = dataclasses.replace(SETTINGS, knn=KnnSettings(weight=0.0))
    predictor, found = predictions(make_store(documents), histories, queries, settings)
    traces = [predictor.trace(one, token) for one in found for token in range(4)]
    assert max(trace.unnamed_mass for trace in traces) > 0.2
    for trace in traces:
        total = trace.parametric_mass + trace.unnamed_mass + sum(source.mass for source in trace.sources)
        assert total == pytest.approx(1)


def test_positions_that_are_asked_together_are_answered_as_each_alone(make_store, documents, histories, queries):
    store = make_store(documents[:4], documents[4:])
    _, together = predictions(store, histories, queries)
    for row, history in enumerate(histories):
        predictor = Predictor(store, SETTINGS)
        answers = predictor.ask(queries[row : row + 1], [history])
        (alone,) = predictor.predict(answers, lm_logprobs(len(histories))[row : row + 1], [history])
        assert alone.logprobs.tobytes() == together[row].logprobs.tobytes()


def terms_held(store, before: Prediction, normalizer: float, history, query, token: int) -> float:
    """The datastore's terms of ``token`` as the store is now, over the normalizers as they were before."""
    predictor = Predictor(store, SETTINGS)
    neighbors = predictor.ask(query[None], [history]).neighbors
    distances, values = neighbors.squared_distances[0].astype(float), neighbors.values[0]
    total = SETTINGS.shares.knn * np.exp(-distances[values == token] / 3.0).sum() / normalizer
    shares = level_shares(before.suffixes[0])
    for level, share in zip(before.suffixes[0], shares, strict=True):
        answer = store.continuations([history[-level.length :]], [level.length])
        tokens, counts = answer.following(0)
        if answer.lengths[0, 0] == level.length:
            total += SETTINGS.shares.ngram * share * counts[tokens == token].sum() / level.n
    return float(total)


@pytest.mark.parametrize("gone", [0, 3, 5])
def test_take_a_source_out_and_the_probability_falls_by_what_it_was_owed(
    make_store, documents, histories, queries, now, gone
):
    """The counterfactual of `silo.attribution`: the term is missing, all else is held, normalizers too."""
    store, name = make_store(documents), documents[gone].facts.id
    predictor = Predictor(store, SETTINGS)
    answers = predictor.ask(queries[: len(histories)], histories)
    before = predictor.predict(answers, lm_logprobs(len(histories)), histories)
    normalizers = np.exp(-answers.neighbors.squared_distances.astype(float) / 3.0).sum(axis=1)
    traces = [[predictor.trace(one, token) for token in range(VOCABULARY)] for one in before]
    opt_out(store, name, now=now)
    n_cited = n_uncited = 0
    for row, (history, one) in enumerate(zip(histories, before, strict=True)):
        for token in range(VOCABULARY):
            trace = traces[row][token]
            probability = np.exp(one.logprobs[token])
            lm_term = (1 - SETTINGS.shares.knn - SETTINGS.shares.ngram) * np.exp(float(one.lm_logprobs[token]))
            fall = probability - lm_term - terms_held(store, one, normalizers[row], history, queries[row], token)
            cited = sum(source.mass for source in trace.sources if source.document == name)
            assert probability * cited - 1e-9 <= fall <= probability * (cited + trace.unnamed_mass) + 1e-9
            if trace.unnamed_mass == 0:
                assert fall == pytest.approx(probability * cited, abs=1e-9)
                n_cited, n_uncited = n_cited + (cited > 1e-3), n_uncited + (cited == 0)
    assert n_cited >= 5
    assert n_uncited >= 50


def test_what_is_served_after_a_removal_follows_from_the_terms_before_it(
    make_store, documents, histories, queries, now
):
    """Renormalized over what is left, with every entry a neighbor: nothing but the removed terms has changed."""
    settings = dataclasses.replace(SETTINGS, ngram=NgramSettings(weight=0.0))
    store, name = make_store(documents), documents[2].facts.id
    predictor = Predictor(store, settings)
    answers = predictor.ask(queries[: len(histories)], histories)
    before = predictor.predict(answers, lm_logprobs(len(histories)), histories)
    rows = []
    for row, one in enumerate(before):
        is_there = one.entries >= 0
        places = store.locate(one.entries[is_there], answers.epoch)
        stays = np.array([place.document != name for place in places])
        assert not stays.all()
        shares = neighbor_logprobs(answers.neighbors.squared_distances[row][is_there][stays], 3.0)
        rows.append((one.values[is_there][stays], shares))
    opt_out(store, name, now=now)
    _, after = predictions(store, histories, queries, settings)
    for (values, shares), one, old in zip(rows, after, before, strict=True):
        expected = (1 - settings.shares.knn) * np.exp(old.lm_logprobs.astype(float))
        np.add.at(expected, values, settings.shares.knn * np.exp(shares))
        assert np.exp(one.logprobs) == pytest.approx(expected, abs=1e-9)


def gate_of(components: Components, bias) -> Gate:
    """Trusts by ``bias`` and the first feature."""
    f, c = len(feature_names(components)), len(components)
    first, second = np.zeros((f, 1), np.float32), np.ones((1, c), np.float32)
    first[0] = 1
    second[0, 0] = -1
    return Gate(
        components,
        GateFacts("made-up", ()),
        np.zeros(f, np.float32),
        np.ones(f, np.float32),
        first,
        np.zeros(1, np.float32),
        second,
        np.asarray(bias, np.float32),
    )


def test_a_gate_weighs_each_temperature_and_each_limit(make_store, documents, histories, queries):
    components = Components(k=5, temperatures=(0.5, 2.0), limits=(9, 2))
    gate = gate_of(components, [0.0, 0.3, -0.2, 0.4, 0.1])
    settings = GenerationSettings(knn=KnnSettings(k=3))
    predictor, found = predictions(make_store(documents), histories, queries, settings, gate)
    for one in found:
        assert len(one.values) == 5
        assert len(one.proposals) == 4
        by_hand = np.exp(one.lm_logprobs.astype(float)) * (1 - sum(p.weight for p in one.proposals if not p.is_empty))
        for proposal in one.proposals:
            np.add.at(by_hand, proposal.candidates.tokens, proposal.weight * np.exp(proposal.candidates.logprobs))
        assert np.exp(one.logprobs) == pytest.approx(by_hand, abs=1e-9)
        assert by_hand.sum() == pytest.approx(1, abs=1e-6)
        for token in range(4):
            trace = predictor.trace(one, token)
            total = trace.parametric_mass + trace.unnamed_mass + sum(source.mass for source in trace.sources)
            assert total == pytest.approx(1)
    assert len({one.proposals[0].weight for one in found}) > 1, "it depends on the position"


def test_after_an_opt_out_a_gate_remembers_nothing_of_the_past_with_the_document(make_store, documents, queries, now):
    text = documents[0].tokens.tolist()
    gate = gate_of(Components(k=5, limits=(9, 2)), [0.1, 0.3, -0.2, 0.4, 0.1, 0.2])
    for column, name in enumerate(feature_names(gate.components)):
        gate.first[column] = 0.3 if "foretold" in name or "lengths" in name else 0.0  # all that it sees is the past

    def asked(predictor, n):
        answers = predictor.ask(queries[:1], [text[:n]])
        (found,) = predictor.predict(answers, lm_logprobs(1), [text[:n]])
        return found.logprobs.tobytes()

    settings = GenerationSettings(knn=KnnSettings(temperature=3.0))
    store = make_store(documents)
    predictor = Predictor(store, settings, gate)
    for n in range(10, 15):
        assert asked(predictor, n) == asked(Predictor(store, settings, gate), n)
    with_it = asked(Predictor(store, settings, gate), 15)
    opt_out(store, "doc-0", now=now)
    assert asked(predictor, 15) == asked(Predictor(make_store(documents[1:]), settings, gate), 15) != with_it


def test_shares_that_are_named_overrule_the_gate(make_store, documents, histories, queries):
    gate = gate_of(Components(), [0.0] * len(Components()))
    store = make_store(documents)
    _, gated = predictions(store, histories, queries, SETTINGS, gate)
    _, fixed = predictions(store, histories, queries, SETTINGS)
    for one, other in zip(gated, fixed, strict=True):
        assert one.logprobs.tobytes() == other.logprobs.tobytes()


def test_an_empty_store_gives_its_share_to_the_lm(make_store, queries):
    _, (one,) = predictions(make_store(), [[1, 2, 3]], queries)
    assert one.logprobs.tobytes() == lm_logprobs(1)[0].astype(np.float64).tobytes()


N_DRAWS = 4000


def chi_square(counts: np.ndarray, probabilities: np.ndarray) -> tuple[float, float]:
    """Pearson's statistic, cells of fewer than five expected taken together, and a bound for it.

    The bound is the mean plus five standard deviations of its distribution.
    """
    expected = probabilities / probabilities.sum() * counts.sum()
    small = expected < 5
    cells = [(counts[~small], expected[~small]), (counts[small].sum(keepdims=True), expected[small].sum(keepdims=True))]
    statistic = sum(float((((seen - wanted) ** 2) / np.maximum(wanted, 1e-9)).sum()) for seen, wanted in cells)
    freedom = float((~small).sum())
    return statistic, freedom + 5 * np.sqrt(2 * freedom)


@pytest.mark.parametrize("share", ["both", "ngram alone", "knn alone"])
def test_drawing_who_speaks_first_gives_the_distribution_of_the_mixture_and_its_masses(
    make_store, documents, histories, queries, share
):
    knn, ngram = {"both": (0.4, 0.35), "ngram alone": (0.0, 0.6), "knn alone": (0.6, 0.0)}[share]
    settings = dataclasses.replace(SETTINGS, knn=KnnSettings(20, knn, 3.0), ngram=NgramSettings(ngram, min_length=1))
    store, row = make_store(documents), 2
    predictor, found = predictions(store, histories, queries, settings)
    lm, random = lm_logprobs(len(histories))[row], np.random.default_rng(0)
    tokens, owed = np.zeros(VOCABULARY), dict.fromkeys(range(VOCABULARY), 0.0)
    of_lm = 0.0
    for _ in range(N_DRAWS):
        token, trace, _ = predictor.draw(lambda: queries[row], lambda: lm, histories[row], random)
        assert trace.parametric_mass + trace.unnamed_mass + sum(source.mass for source in trace.sources) == 1
        tokens[token] += 1
        of_lm += trace.parametric_mass
        owed[token] += sum(source.mass for source in trace.sources if source.document == "doc-3")
    statistic, bound = chi_square(tokens, np.exp(found[row].logprobs))
    assert statistic < bound
    wrong, bound = chi_square(tokens, np.exp(lm.astype(float)))
    assert wrong > bound, "the control: the LM's distribution is told apart"
    assert of_lm / N_DRAWS == pytest.approx(1 - knn - ngram, abs=0.04)
    likeliest = int(np.argmax(found[row].logprobs[:4]))
    mass = sum(s.mass for s in predictor.trace(found[row], likeliest).sources if s.document == "doc-3")
    assert owed[likeliest] / tokens[likeliest] == pytest.approx(mass, abs=0.06)


def test_only_who_speaks_is_asked(make_store, documents, histories, queries, monkeypatch):
    store = make_store(documents)
    predictor = Predictor(store, SETTINGS)
    asked: list[str] = []
    for name in ("search", "continuations"):
        ask = getattr(store, name)
        monkeypatch.setattr(store, name, lambda *of, name=name, ask=ask: [asked.append(name), ask(*of)][1])

    def logprobs():
        asked.append("lm")
        return lm_logprobs(1)[0]

    random = np.random.default_rng(1)
    for _ in range(60):
        before = len(asked)
        predictor.draw(lambda: queries[2], logprobs, histories[2], random)
        assert len(asked) == before + 1
    assert {*asked} == {"search", "continuations", "lm"}
