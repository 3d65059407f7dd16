"""The playground's page: its controls are the API's fields, and its examples are live."""

import html
import json
import re

import pytest
from pydantic import BaseModel

from datastore.optout import opt_out
from serving import create_app, playground
from serving.playground import CONTROLS, Control, examples, has_field
from serving.portal import Portal
from serving.schemas import CompletionRequest


@pytest.fixture
def store(make_store, documents):
    return make_store(documents)


def _put(body: dict, path: str, value: object) -> dict:
    first, _, rest = path.partition(".")
    return body | {first: _put(body.get(first, {}), rest, value) if rest else value}


def test_every_control_that_is_shown_sets_a_field_that_the_api_takes(web, silo):
    silo.gate = object()
    shown = set(re.findall(r'data-path="([\w.]+)"', web.get("/playground").text))
    assert shown == {control.path for control in CONTROLS}
    for control in CONTROLS:
        assert has_field(CompletionRequest, control.path)
        for value in {control.default, control.low, control.high, control.off} - {None}:
            CompletionRequest.model_validate(_put({"prompt": "a"}, control.path, value)).settings(seed=1)


def test_the_gate_is_offered_where_there_is_one_and_decides_the_shares(web, silo):
    assert 'data-path="gate"' not in web.get("/playground").text
    silo.gate = object()
    assert 'data-decides="knn.weight ngram.weight"' in web.get("/playground").text
    assert web.post("/v1/completions", json={"prompt": "a", "gate": True}).status_code == 200
    both = web.post("/v1/completions", json={"prompt": "a", "gate": True, "knn": {"weight": 0.5}})
    assert (both.status_code, both.json["error"]["code"]) == (400, "invalid_request")


def test_what_the_controls_say_at_first_is_what_the_api_does_without_them():
    said = {}
    for control in CONTROLS:
        if control.path != "gate" and not control.is_shared:
            said = _put(said, control.path, control.default if control.is_on else control.off)
    said = {name: {n: v for n, v in part.items() if v is not None} for name, part in said.items()}
    asked, bare = (CompletionRequest.model_validate({"prompt": "a"} | body).settings(1) for body in (said, {}))
    assert (asked.shares, asked.knn.k, asked.retrieval) == (bare.shares, bare.knn.k, bare.retrieval)


def test_a_component_that_is_off_leaves_the_lm_alone():
    (weight,) = [control for control in CONTROLS if control.path == "knn.weight"]
    asked = CompletionRequest.model_validate({"prompt": "a", "knn": {"weight": weight.off}})
    assert asked.settings(seed=1).knn.weight == 0


def test_a_control_for_a_field_that_is_not_there_is_not_shown():
    class Inner(BaseModel):
        weight: float = 0

    class Outer(BaseModel):
        inner: Inner = Inner()
        plain: int = 0

    assert has_field(Outer, "plain")
    assert has_field(Outer, "inner.weight")
    assert not has_field(Outer, "inner.other")
    assert not has_field(Outer, "plain.weight")
    assert not has_field(Outer, "other")


@pytest.mark.parametrize("kind", ["share", "number", "switch", "choice"])
def test_a_new_component_is_one_line(engine, monkeypatch, kind):
    new = Control("user", "New part", "A hint", kind, "a", 0, 1, 0.1, ("a", "b"), is_component=True, off="off")
    monkeypatch.setattr(playground, "CONTROLS", (*CONTROLS, new))
    page = create_app(engine).test_client().get("/playground").text
    assert page.count('data-path="user"') == 2, "in each of the two answers"
    off = re.search(r'data-path="user"[^>]*data-off="([^"]*)"', page)[1]
    assert json.loads(html.unescape(off)) == "off"


def test_without_a_datastore_there_is_nothing_to_switch_or_compare(silo, engine):
    silo.datastore = None
    page = create_app(engine).test_client().get("/playground").text
    assert "data-compare" not in page
    assert "knn" not in page


def test_examples_are_openings_of_live_documents(engine, store, documents, now):
    opt_out(store, "doc-0", now=now)
    found = examples(store)
    assert found == [documents[i].text.split(". ")[0] + "." for i in (1, 2, 3, 4)]
    page = create_app(engine, portal=Portal(store)).test_client().get("/playground").text
    assert all(example in page for example in found)
    assert documents[0].text.split(". ")[0] not in page


def test_choices_bring_the_datastores_mass_of_each_token_when_attributions_are_asked_for(web):
    asked = {"prompt": "a", "max_tokens": 3}
    whole = web.post("/v1/completions", json=asked | {"attributions": True}).json["choices"][0]
    assert whole["datastore_mass"] == [pytest.approx(0.75)] * 3
    stream = web.post("/v1/completions", json=asked | {"attributions": True, "stream": True}).text
    choices = [json.loads(line[6:])["choices"][0] for line in stream.split("\n\n") if line.startswith("data: {")]
    assert [mass for choice in choices for mass in choice["datastore_mass"]] == whole["datastore_mass"]
    assert "datastore_mass" not in web.post("/v1/completions", json=asked).json["choices"][0]
