import numpy as np
import pytest

from datastore.hiding import hide, release
from datastore.optout import opt_out
from datastore.passage_optout import remove_passages
from silo.documents import Document
from silo.errors import BadRequest
from silo.evaluation.leaving_out import leave_out, steps, summary
from silo.evaluation.mixture_options import opened, setup
from silo.evaluation.series import SeriesRule, choose, series_in
from silo.evaluation.served import Served
from silo.evaluation.working_copies import live_document, never_had, working_copy
from silo.evidence import Components, feature_names
from silo.gate import GATE_NAME, Gate, GateFacts
from silo.scoring import score
from silo.settings import GenerationSettings, KnnSettings

SETTINGS = GenerationSettings(knn=KnnSettings(k=16))
SHARED = "The quick brown lighthouse keeper of Velmora counts her eleven silver lanterns every evening at dusk. "


@pytest.fixture
def documents(manual):
    """Five chapters of one author, which repeat a sentence, among pages of others."""
    series = [
        Document(
            f"novel/{i}",
            f"Chapter {i}. {SHARED}Then number {i} went home. {SHARED}",
            "LicenseRef-test",
            title=f"Velmora: part {i}",
            owner="A. Author",
            metadata={"thread": i // 3},
        )
        for i in range(5)
    ]
    return [*manual(50, 56, "LicenseRef-test", 200), *series]


@pytest.fixture
def store(llama, build, documents):
    return build(llama, documents)


@pytest.fixture
def served(llama):
    return Served(llama, SETTINGS)


def test_a_series_is_named_by_a_field_or_a_part_of_it(store):
    by_owner = series_in(store, SeriesRule("owner"))
    assert by_owner == {"A. Author": tuple(f"novel/{i}" for i in range(5))}
    assert series_in(store, SeriesRule("title", "([^:]*):")) == {"Velmora": by_owner["A. Author"]}
    by_thread = series_in(store, SeriesRule("metadata.thread"))
    assert by_thread == {"0": ("novel/0", "novel/1", "novel/2"), "1": ("novel/3", "novel/4")}
    assert list(series_in(store, SeriesRule("metadata.thread"), at_least=3)) == ["0"]
    assert choose(by_thread, ["1"], 1) == {"1": by_thread["1"]}
    assert list(choose(by_thread, (), 1)) == ["0"]


def test_a_series_that_is_not_there_is_refused(store):
    with pytest.raises(BadRequest, match=r"'B\. Author'.*'A\. Author' \(5\)"):
        choose(series_in(store, SeriesRule()), ["B. Author"], 1)
    with pytest.raises(BadRequest, match="no series has enough"):
        choose({}, (), 1)
    with pytest.raises(BadRequest, match="named by one of"):
        SeriesRule("author")
    with pytest.raises(BadRequest, match="no regular expression"):
        SeriesRule("title", "(")


def test_the_others_of_a_series_are_worth_something_until_they_are_gone(served, store, documents, now):
    epoch = store.epoch
    series = [f"novel/{i}" for i in range(5)]
    found = list(leave_out(served, store, series, now=now, n_held_out=2, n_steps=4, seed=3))
    for one in found:
        assert one.n_left == (4, 3, 2, 1, 0)
        assert sorted([*one.removed, one.document]) == series
        nats = [score.nats for score in one.scores]
        assert nats[-1] > nats[0] + 20, "what all of them repeat is likelier while one of them is there"
    assert len({one.document for one in found}) == 2
    known = summary(found)
    assert known["curve"][0]["n_left"] == 4 and known["curve"][-1]["n_left"] == 0
    assert known["worth_of_the_others"]["nats_per_token"] > 0.3
    assert known["lost"] > 0.5
    assert store.epoch == epoch and len(list(store.documents("live"))) == len(documents)


def test_with_none_of_them_it_is_as_if_the_series_had_never_been_there(served, store, build, llama, manual, now):
    series = [f"novel/{i}" for i in range(5)]
    (one,) = leave_out(served, store, series, now=now, n_held_out=1, n_steps=1, seed=1)
    assert one.n_left == (4, 0)
    without = build(llama, manual(50, 56, "LicenseRef-test", 200))
    reading = served.read(live_document(store, one.document))
    assert one.scores[-1] == reading.score(served.logprobs(without, reading))
    assert one.scores[0] != one.scores[-1]
    assert one.alone == reading.lm_score


def test_an_interrupted_run_goes_on_where_it_was_until_the_store_changes(served, store, now, tmp_path, monkeypatch):
    series, cache = [f"novel/{i}" for i in range(3)], tmp_path / "cache"
    options = {"now": now, "n_steps": 1, "max_tokens": 40, "seed": 2, "cache": cache}
    begun = leave_out(served, store, series, **options)
    first = next(begun)
    begun.close()
    calls = []
    read = Served.read
    monkeypatch.setattr(Served, "read", lambda *arguments: calls.append(arguments[1].id) or read(*arguments))
    found = list(leave_out(served, store, series, **options))
    assert found[0] == first and calls == [one.document for one in found[1:]]
    assert list(leave_out(served, store, series, **options)) == found and len(calls) == 2
    (torn, *_) = cache.rglob("held-out-*.json")
    torn.write_bytes(torn.read_bytes()[:-9])
    assert list(leave_out(served, store, series, **options)) == found and len(calls) == 3
    others = dict(options, max_tokens=30)
    assert list(leave_out(served, store, series, **others)) != found and len(calls) == 6
    opt_out(store, "novel/4", now=now)
    list(leave_out(served, store, series, **options))
    assert len(calls) == 9 and len(list(cache.glob(f"{store.id}-*"))) == 1


def test_steps_go_from_all_to_none():
    assert steps(4, 9) == (4, 3, 2, 1, 0)
    assert steps(100, 4) == (100, 75, 50, 25, 0)
    assert steps(1, 1) == (1, 0)
    with pytest.raises(BadRequest, match="another document"):
        steps(0, 3)


def test_a_text_is_served_as_it_is_scored_elsewhere(served, store, llama, documents):
    """Two implementations: the evaluation's, and the one behind ``echo``."""
    text = documents[0].text[:150]
    reading = served.read(Document("some", text))
    expected = score(llama, store, text, SETTINGS, None, 0)
    found = served.logprobs(store, reading)
    assert len(found) == len(expected.tokens) + 1
    assert found[:-1] == pytest.approx([token.logprob for token in expected.tokens], abs=1e-4)
    assert (found[:-1] > reading.lm_logprobs[:-1]).mean() > 0.9
    cut = served.read(Document("some", text), 20)
    assert (len(cut.tokens), cut.n_bytes < reading.n_bytes) == (20, True)
    with pytest.raises(BadRequest, match="no token"):
        served.read(Document("empty", ""))


def test_a_copy_is_another_store_and_reaches_no_key_of_a_backup(store, tmp_path, now):
    (store.path / "backup-copies.json").write_text('{"copies": ["/vault/store.keys"]}')
    (store.path / "backup-keys").write_text("keys")
    with working_copy(store, tmp_path) as copy:
        path = copy.path
        assert not list(path.glob("backup*"))
        opt_out(copy, "novel/0", now=now)
        assert copy.document("novel/0").state == "removed"
    assert store.document("novel/0").state == "live"
    assert not path.exists()


def test_a_store_that_never_had_some_documents_answers_so(llama, store, documents, build):
    queries = llama.encode(np.arange(1, 30)).astype(np.float32)
    with never_had(store, llama, {"novel/1"}) as never:
        built = build(llama, [document for document in documents if document.id != "novel/1"])
        for name in ("squared_distances", "entries", "values"):
            assert (getattr(never.search(queries, 8), name) == getattr(built.search(queries, 8), name)).all()
        assert [one.facts for one in never.documents()] == [one.facts for one in built.documents()]


def test_what_no_text_gives_is_not_built(llama, store, now):
    with store.catalog.change() as connection:
        hide(connection, "novel/2")
    with pytest.raises(BadRequest, match="are hidden"), never_had(store, llama, set()):
        pass
    with store.catalog.change() as connection:
        release(connection, "novel/2")
    remove_passages(store, "novel/3", [(1, 2)], now=now)
    with pytest.raises(BadRequest, match="taken out of 'novel/3'"), never_had(store, llama, {"novel/1"}):
        pass
    with never_had(store, llama, {"novel/3"}) as never:
        assert never.n_entries == store.n_entries - store.document("novel/3").n_entries
    with pytest.raises(BadRequest, match="not live"):
        live_document(opted_out(store, now), "novel/0")


def opted_out(store, now):
    opt_out(store, "novel/0", now=now)
    return store


def test_the_gate_beside_a_store_is_the_one_it_is_served_with(llama, store, tmp_path):
    llama.model.save_pretrained(tmp_path / "model")
    llama.tokenizer.save_pretrained(tmp_path / "model")
    arguments = (str(tmp_path / "model"), store.path, None, 8, None, None, "cpu")
    assert opened(*arguments)[1].gate is None
    components = Components()
    f, c = len(feature_names(components)), len(components)
    arrays = (np.zeros(f), np.ones(f), np.zeros((f, 1)), np.zeros(1), np.zeros((1, c)), np.zeros(c))
    gate = Gate(components, GateFacts(llama.fingerprint, ()), *(np.asarray(a, np.float32) for a in arrays))
    gate.save(store.path / GATE_NAME)
    joined, served = opened(*arguments)
    assert served.gate is not None and setup(joined, served)["gate"] == served.gate.digest
    assert setup(joined, served)["shares"] == {}
