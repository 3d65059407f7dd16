"""The endpoints on a real datastore: what the double promises, the store keeps. The LM is still scripted."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import numpy as np
import pytest
from flask.testing import FlaskClient

from datastore import writer
from datastore.records import DocumentFacts, EncodedDocument
from serving import create_app
from serving.engine import Engine

TEXTS = {"opinion": "The court ruled. Costs follow.", "https://news.example/a": "Rain today. It was late."}
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def _encoded(name: str, text: str, generator: np.random.Generator) -> EncodedDocument:
    cut = text.index(". ") + 2
    return EncodedDocument(
        DocumentFacts(name, digest=f"{len(text):064x}", title=f"Title of {name}", owner="The Owner"),
        text,
        tokens=np.arange(7),
        keys=generator.normal(size=(6, 8)).astype(np.float32),
        sentences=np.array([[0, cut], [cut, len(text)]]),
        token_sentences=np.array([0, 0, 0, 1, 1, 1, 1]),
    )


@pytest.fixture
def web(tmp_path, silo) -> FlaskClient:
    generator = np.random.default_rng(0)
    keys = generator.normal(size=(64, 8)).astype(np.float32)
    encoder = writer.Encoder("fingerprint", "scripted", dimension=8, vocabulary=11)
    silo.datastore = writer.create(tmp_path / "store", encoder, keys, [], n_lists=2, knn_temperature=1.0, now=NOON)
    writer.add(silo.datastore, [_encoded(name, text, generator) for name, text in TEXTS.items()])
    return create_app(Engine(silo)).test_client()


def _sources(web: FlaskClient) -> list[dict]:
    asked = {"prompt": "a", "max_tokens": 4, "attributions": True}
    return web.post("/v1/completions", json=asked).json["choices"][0]["annotations"][0]["sources"]


def test_sources_are_shown_until_they_are_opted_out(web: FlaskClient):
    assert [source["text"] for source in _sources(web)] == ["The court ruled.", "It was late."]
    assert web.post("/v1/optouts", json={"document": "opinion"}).status_code == 201
    gone, stays = _sources(web)
    assert gone == {"document_id": "opinion", "mass": pytest.approx(0.5), "removed": True}
    assert stays["text"] == "It was late."


def test_a_receipt_reads_back_as_it_was_signed(web: FlaskClient):
    from datastore.receipts import receipt_from_json

    answer = web.post("/v1/optouts", json={"document": "opinion"}).json
    receipt = receipt_from_json(answer)
    assert receipt.document == "opinion"
    assert receipt.to_json() == answer


def test_of_many_opt_outs_at_once_all_get_the_same_receipt(web: FlaskClient):
    def ask(_: int) -> tuple[int, str]:
        response = web.application.test_client().post("/v1/optouts", json={"document": "opinion"})
        return response.status_code, response.text

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(ask, range(8)))
    assert sorted(status for status, _ in answers) == [200] * 7 + [201]
    assert len({text for _, text in answers}) == 1


def test_a_document_is_shown_and_then_only_its_state(web: FlaskClient):
    assert web.get("/v1/documents/opinion").json["title"] == "Title of opinion"
    web.post("/v1/optouts", json={"document": "opinion"})
    shown = web.get("/v1/documents/opinion").json
    assert (shown["state"], shown["title"]) == ("removed", None)
    assert web.get("/v1/documents/nobody").status_code == 404
