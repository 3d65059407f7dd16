"""Annotations: who is owed each generated sentence, and what is shown of a source that has left."""

import json
from dataclasses import replace

import pytest
from flask.testing import FlaskClient

from serving.rendering import annotation_json, verbatim
from silo.attribution import AttributedSentence, ContextSource, TokenSource
from silo.copyguard import excerpt
from tests.serving.conftest import ScriptedLM

ASKED = {"prompt": "a", "max_tokens": 11, "attributions": True}
WHOLE = "The court ruled. It was late. Näheres folgt."


def _annotations(web: FlaskClient, **more) -> list[dict]:
    return web.post("/v1/completions", json=ASKED | more).json["choices"][0]["annotations"]


def _stream(web: FlaskClient, **more) -> list[dict]:
    events = web.post("/v1/completions", json=ASKED | {"stream": True} | more).text.strip().split("\n\n")
    return [json.loads(event.removeprefix("data: "))["choices"][0] for event in events[:-1]]


def test_every_sentence_names_its_sources(web: FlaskClient):
    annotations = _annotations(web)
    spans = [(annotation["start_index"], annotation["end_index"]) for annotation in annotations]
    assert [WHOLE[start:end].strip() for start, end in spans] == ["The court ruled.", "It was late.", "Näheres folgt."]
    assert annotations[0] | {"sources": []} == {
        "type": "silo_attribution",
        "start_index": 0,
        "end_index": 17,
        "title": "Title of opinion",
        "url": "https://news.example/",
        "document_id": "opinion",
        "license": "LicenseRef-Proprietary",
        "owner": "The Owner",
        "sentence": 0,
        "mass": pytest.approx(0.5),
        "verbatim": "The court ruled.",
        "parametric_mass": pytest.approx(0.25),
        "unnamed_mass": 0.0,
        "datastore_version": 7,
        "sources": [],
    }
    assert annotations[0]["sources"][0] == {
        "document_id": "opinion",
        "title": "Title of opinion",
        "url": "https://news.example/",
        "license": "LicenseRef-Proprietary",
        "owner": "The Owner",
        "source": "press",
        "sentence": 0,
        "text": "The court ruled.",
        "verbatim": "The court ruled.",
        "mass": pytest.approx(0.5),
        "removed": False,
    }


def test_the_masses_of_an_annotation_sum_to_one(web: FlaskClient):
    for annotation in _annotations(web):
        assert annotation["parametric_mass"] + sum(s["mass"] for s in annotation["sources"]) == pytest.approx(1)


def test_at_most_300_characters_of_a_source_sentence_are_shown(web: FlaskClient):
    source = _annotations(web)[0]["sources"][1]
    assert source["text"].startswith("It was late. xxx")
    assert len(source["text"]) == 300


def test_the_16_largest_sources_are_looked_up_and_the_others_keep_document_and_mass(engine):
    sources = tuple(TokenSource("opinion", i % 2, (20 - i) / 420) for i in range(20))
    looked_up = []

    def passage_of(source: TokenSource):
        looked_up.append(source)
        return engine.passage(source)

    shown = annotation_json(AttributedSentence(0, 9, 0.5, sources), "The court", 7, passage_of)["sources"]
    assert tuple(looked_up) == sources[:16]
    assert all(source["text"] for source in shown[:16])
    assert shown[16:] == [{"document_id": "opinion", "mass": source.mass} for source in sources[16:]]


def test_what_is_owed_to_places_that_are_not_named_makes_the_sum_one(engine):
    sentence = AttributedSentence(0, 9, 0.25, (TokenSource("opinion", 0, 0.5),), 0.25)
    note = annotation_json(sentence, "The court", 7, engine.passage)
    assert note["unnamed_mass"] == 0.25
    assert note["parametric_mass"] + note["unnamed_mass"] + sum(s["mass"] for s in note["sources"]) == 1


def test_a_source_sentence_of_high_risk_is_shown_as_far_as_the_server_lets_it_be(
    engine, silo, store, llama, monkeypatch
):
    silo.lm = ScriptedLM(tokenizer=llama.tokenizer)
    silo.max_verbatim = 3
    text = "Rain today."
    shown = engine.passage(TokenSource("https://news.example/a", 0, 1.0))
    assert (shown.text, shown.excerpt) == ("Rain today. ", excerpt(text, llama.tokenizer, 3))
    assert shown.excerpt != text
    facts = store.document("opinion")
    monkeypatch.setattr(store, "document", lambda _: replace(facts, facts=replace(facts.facts, risk="BY")))
    assert engine.passage(TokenSource("https://news.example/a", 0, 1.0)).excerpt == text


READ = (ContextSource("opinion", (0, 2), (0, 4)), ContextSource("https://news.example/a", (1, 2), (4, 11)))


@pytest.mark.parametrize("stream", [False, True])
def test_what_the_model_read_first_is_told_with_the_answer(web: FlaskClient, silo, store, stream):
    silo.context_sources = READ
    store.removed.add("https://news.example/a")
    choice = _stream(web)[-1] if stream else web.post("/v1/completions", json=ASKED).json["choices"][0]
    first, gone = choice["context_sources"]
    assert first == {
        "document_id": "opinion",
        "start_index": 0,
        "end_index": len("The court ruled."),
        "title": "Title of opinion",
        "url": "https://news.example/",
        "license": "LicenseRef-Proprietary",
        "owner": "The Owner",
        "source": "press",
        "sentences": [0, 2],
        "text": "The court ruled.",
        "removed": False,
    }
    assert gone == {
        "document_id": "https://news.example/a",
        "start_index": len("The court ruled."),
        "end_index": len(WHOLE),
        "removed": True,
    }


@pytest.mark.parametrize("stream", [False, True])
def test_a_turn_tells_what_was_read_too(web: FlaskClient, silo, stream):
    silo.context_sources = READ[:1]
    asked = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 11, "attributions": True, "stream": stream}
    answer = web.post("/v1/chat/completions", json=asked)
    if stream:
        events = [json.loads(event.removeprefix("data: ")) for event in answer.text.strip().split("\n\n")[:-1]]
        told = events[-1]["choices"][0]["delta"]["context_sources"]
    else:
        told = answer.json["choices"][0]["message"]["context_sources"]
    assert [(one["document_id"], one["start_index"]) for one in told] == [("opinion", 0)]


def test_no_annotations_come_unasked(web: FlaskClient):
    (choice,) = web.post("/v1/completions", json={"prompt": "a"}).json["choices"]
    assert not {"annotations", "context_sources"} & set(choice)
    assert all("annotations" not in choice for choice in _stream(web, attributions=False))


def test_a_stream_tells_each_sentence_once_when_a_later_one_has_begun(web: FlaskClient):
    choices = _stream(web)
    told = [(i, annotation) for i, choice in enumerate(choices) for annotation in choice["annotations"]]
    assert [annotation for _, annotation in told] == _annotations(web)
    text = ""
    for i, choice in enumerate(choices):
        text += choice["text"]
        for annotation in choice["annotations"]:
            assert annotation["end_index"] < len(text) or i == len(choices) - 1
    assert [i for i, _ in told] == [4, 8, 11]


def test_a_source_that_left_before_it_is_rendered_shows_only_its_id_and_mass(web: FlaskClient, silo, store):
    def remove_at_the_last_token():
        if len(made) == 10:
            store.removed.add("opinion")
        made.append(None)

    made: list[None] = []
    silo.before_token = remove_at_the_last_token
    for annotation in _annotations(web):
        gone, stays = annotation["sources"]
        assert gone == {"document_id": "opinion", "mass": pytest.approx(0.5), "removed": True}
        assert (stays["document_id"], stays["removed"]) == ("https://news.example/a", False)
        assert annotation["parametric_mass"] + gone["mass"] + stays["mass"] == pytest.approx(1)


def test_a_source_that_leaves_between_its_text_and_its_facts_is_not_shown(web: FlaskClient, store):
    read = store.sentence_text

    def leave_after_reading(document: str, sentence: int) -> str:
        text = read(document, sentence)
        store.removed.add(document)
        return text

    store.sentence_text = leave_after_reading
    assert all(source["removed"] for annotation in _annotations(web) for source in annotation["sources"])


@pytest.mark.parametrize(
    ("text", "source", "run"),
    [
        ("The court ruled.", "Yesterday the  court\nruled late.", "The court ruled"),
        ("It was late.", "Nothing of this", ""),
        ("late", "late", ""),
        ("", "The court", ""),
        ("a b c d e", "a b x b c d", "b c d"),
    ],
)
def test_verbatim_is_the_longest_run_of_words_in_common(text, source, run):
    assert verbatim(text, source) == run
