"""Figures for Prometheus, readiness, and a log that tells nothing of what was said."""

import json
import logging

from flask.testing import FlaskClient


def _figures(web: FlaskClient) -> dict[str, float]:
    lines = web.get("/metrics").text.splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def test_tokens_and_their_datastore_share_are_counted(web: FlaskClient):
    for stream in (False, True):
        asked = {"prompt": "one two three", "max_tokens": 8, "n": 2, "stream": stream}
        assert web.post("/v1/completions", json=asked, buffered=True).text
    figures = _figures(web)
    assert figures['silo_tokens_total{kind="completion"}'] == 32
    assert figures['silo_tokens_total{kind="prompt"}'] == 6
    assert figures["silo_datastore_mass_total"] == 32 * 0.75
    assert figures["silo_first_token_seconds_count"] == 4
    assert figures['silo_answers_total{route="/v1/completions",status="200"}'] == 2
    assert (figures["silo_requests"], figures["silo_datastore_epoch"]) == (0, 7)


def test_neither_log_nor_metrics_tell_what_was_said_or_of_which_document(web: FlaskClient, caplog):
    caplog.set_level(logging.INFO, logger="serving.requests")
    web.post("/v1/completions", json={"prompt": "a secret prompt", "max_tokens": 8, "user": "somebody"}, buffered=True)
    web.get("/v1/documents/https://news.example/a?limit=secret", buffered=True)
    web.get("/nowhere/secret", buffered=True)
    logged = [json.loads(record.message) for record in caplog.records if record.name == "serving.requests"]
    assert [line["route"] for line in logged] == ["/v1/completions", "/v1/documents/<path:id>", "none"]
    assert [line["status"] for line in logged] == [200, 200, 404]
    told = caplog.text + web.get("/metrics").text
    for word in ("secret", "court", "opinion", "news.example", "somebody"):
        assert word not in told


def test_a_server_says_whether_it_is_ready(web: FlaskClient, engine, store):
    assert web.get("/readyz").json == {
        "status": "ready",
        "model": {"status": "on", "reason": None, "name": "scripted"},
        "datastore": {"status": "on", "reason": None, "version": 7},
    }
    engine.close()
    response = web.get("/readyz")
    assert (response.status_code, response.json["status"]) == (503, "unavailable")
    assert web.get("/healthz").status_code == 200
