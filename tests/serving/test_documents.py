"""Documents are shown by their facts, and opted out with a receipt."""

import pytest
from flask.testing import FlaskClient

from serving import create_app
from serving.engine import Engine


def test_a_document_is_shown_by_its_facts(web: FlaskClient):
    assert web.get("/v1/documents/opinion").json == {
        "object": "document",
        "id": "opinion",
        "state": "live",
        "title": "Title of opinion",
        "owner": "The Owner",
        "license": "LicenseRef-Proprietary",
        "risk": "HIGH_RISK",
        "source": "press",
        "url": "https://news.example/",
        "digest": "d" * 64,
        "n_sentences": 2,
        "n_entries": 9,
    }


def test_neither_text_nor_metadata_is_shown(web: FlaskClient):
    text = web.get("/v1/documents/opinion").text
    assert "ruled" not in text
    assert "secret" not in text


def test_the_id_of_a_document_may_be_a_url(web: FlaskClient):
    assert web.get("/v1/documents/https://news.example/a").json["id"] == "https://news.example/a"
    assert web.get("/v1/documents/https%3A%2F%2Fnews.example%2Fa").json["id"] == "https://news.example/a"


def test_a_document_that_left_shows_its_state_and_nothing_else(web: FlaskClient):
    fields = set(web.get("/v1/documents/opinion").json)
    web.post("/v1/optouts", json={"document": "opinion"})
    shown = web.get("/v1/documents/opinion").json
    assert set(shown) == fields
    known = {name: value for name, value in shown.items() if value is not None}
    assert known == {"object": "document", "id": "opinion", "state": "removed"}


def test_an_opt_out_is_answered_with_its_receipt_and_again_with_the_same(web: FlaskClient):
    first = web.post("/v1/optouts", json={"document": "opinion"})
    again = web.post("/v1/optouts", json={"document": "opinion"})
    assert (first.status_code, again.status_code) == (201, 200)
    assert (
        first.json
        == again.json
        == {
            "document": "opinion",
            "accepted_at": "2026-11-24T12:00:00+00:00",
            "signature": "00",
        }
    )


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [("GET", "/v1/documents/nobody", None), ("POST", "/v1/optouts", {"document": "nobody"})],
)
def test_an_unknown_document_is_a_404(web: FlaskClient, method, path, body):
    response = web.open(path, method=method, json=body)
    assert response.status_code == 404
    assert response.json["error"]["code"] == "document_not_found"
    assert "'nobody'" in response.json["detail"]


def test_a_server_without_a_datastore_completes_and_says_that_it_holds_no_documents(silo):
    silo.datastore = None
    web = create_app(Engine(silo)).test_client()
    assert web.post("/v1/completions", json={"prompt": "a"}).json["datastore_version"] is None
    assert web.get("/healthz").json == {"status": "ok", "model": "scripted", "datastore_version": None}
    for response in (web.get("/v1/documents/opinion"), web.post("/v1/optouts", json={"document": "opinion"})):
        assert response.status_code == 404
        assert response.json["error"]["code"] == "no_datastore"


def test_health_names_the_model_and_the_version_of_the_datastore(web: FlaskClient):
    assert web.get("/healthz").json == {"status": "ok", "model": "scripted", "datastore_version": 7}
