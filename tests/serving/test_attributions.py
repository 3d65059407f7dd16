"""Annotations: who is owed each generated sentence, and what is shown of a source that has left."""

import json

import pytest
from flask.testing import FlaskClient

from serving.rendering import annotation_json, verbatim
from silo.attribution import AttributedSentence, TokenSource

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


def test_no_annotations_come_unasked(web: FlaskClient):
    (choice,) = web.post("/v1/completions", json={"prompt": "a"}).json["choices"]
    assert "annotations" not in choice
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
