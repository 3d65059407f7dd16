"""The LM after passages: as the decode loop reads them, kept apart from traces, and gone when the store changes."""

from dataclasses import replace

import numpy as np
import pytest

from datastore.optout import opt_out
from silo.context_passages import GrowingText, PassageFinder, opened_by
from silo.errors import BadRequest
from silo.evaluation import in_context as module
from silo.evaluation.in_context import InContext, all_in_context, best_share, in_context, joined, windows, with_lm
from silo.evaluation.likelihood import token_logprobs
from silo.evaluation.perplexity import Measured, figures, look, look_in_context, tuned
from silo.evaluation.protocol import freeze, read_frozen
from silo.evaluation.traces import TraceSettings
from silo.evidence import Components
from silo.settings import RetrievalSettings
from silo.tokenizer import tokenize

SETTINGS = RetrievalSettings(stride=8, query_tokens=12)
TRACED = TraceSettings(Components(k=6, temperatures=(1.0, 2.0), limits=(9, 2)), ks=(2, 6), factors=(0.5, 1.0))


@pytest.fixture
def store(llama, build, manual):
    return build(llama, manual(50, 56, "GPL-3.0-only"))


@pytest.fixture
def asked(manual):
    return manual(60, 62, "GPL-3.0-only", characters=400)


def tokens_of(lm, document) -> list[int]:
    return [*tokenize(lm.tokenizer, document.text).ids.tolist(), lm.boundary]


@pytest.mark.parametrize(
    "retrieval",
    [
        SETTINGS,
        replace(SETTINGS, join="boundary"),
        replace(SETTINGS, n_passages=3),
        replace(SETTINGS, n_passages=2, ensemble="score"),
    ],
    ids=["one", "boundary", "three", "by score"],
)
def test_each_token_gets_what_the_decode_loop_gives_it(llama, store, asked, retrieval):
    n_compared = n_cut = 0
    for document in asked:
        tokens, found = tokens_of(llama, document), in_context(llama, store, document, retrieval)
        assert len(found.gold) == len(found.has_passage) == len(tokens)
        finder = PassageFinder(store, llama, retrieval)
        for start in range(0, len(tokens), retrieval.stride):
            passages, _ = finder.find(tokens[:start])
            made = windows(llama, tokens, start, retrieval, passages)
            assert max(len(window.tokens) for window in made) <= llama.context_length
            stride = tokens[start : start + retrieval.stride]
            starts_with = {len(window.tokens) - window.n_before for window in made}
            assert starts_with == {len(stride) - 1}
            heads = [opened_by(llama, one, retrieval.join, llama.context_length // 2) for one in passages]
            kept = {window.n_before - len(head) for window, head in zip(made, heads or [[llama.opening]], strict=True)}
            if len(kept) > 1:
                continue  # each passage leaves another part of the document, and the loop has one prompt
            before = tokens[start - min(kept) : start]
            n_cut += len(before) < start
            reading = GrowingText(llama, llama.decoder, len(before), llama.context_length // 2, finder)
            for i, token in enumerate(stride):
                reading.read([*before, *stride[:i]])
                assert found.gold[start + i] == pytest.approx(float(reading.logprobs()[token]), abs=2e-4)
                assert found.has_passage[start + i] == bool(reading.passages)
                n_compared += 1
            reading.close()
    assert n_compared > 60 and (n_cut > 3 or retrieval.n_passages > 1)


def test_where_nothing_is_found_the_lm_reads_the_document_alone(llama, store, asked):
    document = replace(asked[0], text="qzx " * 30)
    found = in_context(llama, store, document, SETTINGS)
    assert not found.has_passage.any()
    alone = token_logprobs(llama, np.array(tokens_of(llama, document)))
    n = llama.context_length - 1
    assert found.gold[:n] == pytest.approx(alone[:n], abs=1e-4)


def test_how_many_runs_are_read_side_by_side_makes_no_difference(llama, store, asked, monkeypatch):
    at_once = in_context(llama, store, asked[0], SETTINGS)
    monkeypatch.setattr(module, "_BATCH_TOKENS", 1)
    one_by_one = in_context(llama, store, asked[0], SETTINGS)
    assert at_once.gold == pytest.approx(one_by_one.gold, abs=1e-4)
    alone = token_logprobs(llama, np.array(tokens_of(llama, asked[0])))
    assert abs(at_once.gold - alone)[at_once.has_passage].max() > 0.1, "the control: passages make a difference"


def test_documents_are_read_once_until_the_store_changes(llama, store, asked, tmp_path, monkeypatch, now):
    first = joined(all_in_context(llama, store, asked, SETTINGS, tmp_path))
    read, n_read = module.in_context, []
    monkeypatch.setattr(module, "in_context", lambda *given: n_read.append(given) or read(*given))
    again = joined(all_in_context(llama, store, asked, SETTINGS, tmp_path))
    assert np.array_equal(first.gold, again.gold) and np.array_equal(first.has_passage, again.has_passage)
    assert n_read == []
    torn = next(tmp_path.rglob("*.safetensors"))
    torn.write_bytes(torn.read_bytes()[:100])
    joined(all_in_context(llama, store, asked, SETTINGS, tmp_path))
    assert len(n_read) == 1
    other = replace(SETTINGS, query_tokens=6)
    assert not np.array_equal(joined(all_in_context(llama, store, asked, other, tmp_path)).gold, first.gold)
    names = {path.parent for path in tmp_path.rglob("*.safetensors")}
    opt_out(store, next(iter(store.documents())).facts.id, now=now)
    joined(all_in_context(llama, store, asked, SETTINGS, tmp_path))
    assert not any(name.exists() for name in names), "what was read before a removal is gone"


def test_the_share_that_predicts_best_is_chosen():
    random = np.random.default_rng(3)
    lm, ric = -random.exponential(2, (2, 400))
    seen = InContext(ric, np.ones(400, bool))
    assert with_lm(lm, seen, 0.0) == pytest.approx(lm) and with_lm(lm, seen, 1.0) == pytest.approx(ric)
    assert np.exp(with_lm(lm, seen, 0.25)) == pytest.approx(0.75 * np.exp(lm) + 0.25 * np.exp(ric))
    share = best_share(lm, seen)
    assert 0 < share < 1
    best = with_lm(lm, seen, share).mean()
    assert all(best >= with_lm(lm, seen, other).mean() for other in np.linspace(0, 1, 21))
    assert best_share(lm, InContext(lm - 1, seen.has_passage)) == 0


def test_it_is_measured_beside_the_others(llama, store, asked, tmp_path):
    measured = Measured(llama, store, None, TRACED, tmp_path, SETTINGS)
    assert measured.predictors[-2:] == ("ric", "ric+lm")
    assert replace(measured, retrieval=None).predictors == measured.predictors[:-2]
    assert look_in_context(replace(measured, retrieval=None), asked, "text") is None
    seen, digests = look(measured, asked, "text")
    after = look_in_context(measured, asked, "text")
    wanted = ["lm", "ric", "ric+lm"]
    choices = tuned(measured, seen, digests, wanted, after)
    freeze(tmp_path / "frozen.json", measured.setup, {"text": choices})
    setup, thawed = read_frozen(tmp_path / "frozen.json")
    assert setup == measured.setup and thawed["text"] == choices
    rows = {row["predictor"]: row for row in figures(measured, seen, wanted, choices.choices, after_passages=after)}
    assert rows["ric"]["nats_per_token"] == pytest.approx(-after.gold.mean(dtype=float))
    assert rows["ric+lm"]["nats_per_token"] <= min(rows["lm"]["nats_per_token"], rows["ric"]["nats_per_token"])
    assert rows["lm"]["n_tokens"] == rows["ric"]["n_tokens"] == len(after.gold)
    with pytest.raises(BadRequest, match="can be measured here"):
        figures(replace(measured, retrieval=None), seen, wanted, choices.choices)


@pytest.mark.parametrize(
    ("retrieval", "said"),
    [
        (replace(SETTINGS, scorer="dense"), "bm25 alone"),
        (replace(SETTINGS, stride=64), "at most a third of the LM's context, 32 tokens; got 64"),
    ],
)
def test_what_cannot_be_looked_at_is_refused(llama, store, asked, retrieval, said):
    with pytest.raises(BadRequest, match=said):
        in_context(llama, store, asked[0], retrieval)
    with pytest.raises(BadRequest, match="at least one"):
        joined([])
