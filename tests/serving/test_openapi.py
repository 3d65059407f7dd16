"""The description of the API, held to the routes and to what they do with what it allows."""

import json
import re

import pytest
from flask import Flask
from flask.testing import FlaskClient

from serving import create_app
from serving.engine import Engine
from serving.openapi import OPERATIONS, describe
from serving.runners import Runners
from silo.ingestion import Ingested
from tests.conftest import lattice_document
from tests.serving.conftest import NOON, ScriptedSilo


def test_every_route_under_v1_is_described_and_no_other(app: Flask):
    routes = {
        (method, rule.rule)
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.rule.startswith("/v1/")
    }
    assert routes == set(OPERATIONS)


def test_every_reference_leads_somewhere(app: Flask):
    description = describe(app)
    names = re.findall(r'"#/components/schemas/(\w+)"', json.dumps(description))
    assert names
    assert set(names) <= set(description["components"]["schemas"])


def test_the_docs_page_asks_for_nothing_outside(web: FlaskClient):
    response = web.get("/docs")
    assert "POST /v1/completions" in response.text
    assert "best_of" in response.text
    assert not re.findall(r"""(?:src|href)\s*=\s*["']?(?!/)""", response.text)
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]


class Makers(Runners):
    """Adds nothing."""

    def ingest(self, documents):
        return Ingested(len(documents), 0, ())


@pytest.fixture
def whole_app(make_store) -> Flask:
    """The application over a real datastore."""
    store = make_store([lattice_document(f"doc-{i}", seed=i) for i in range(5)])
    silo = ScriptedSilo(store)
    yield create_app(Engine(silo, makers=Makers(silo), clock=lambda: NOON))
    store.close()


@pytest.mark.slow
def test_schemathesis_finds_nothing_that_breaks(whole_app: Flask):
    _run_schemathesis(whole_app, 1300)


def test_schemathesis_finds_nothing_that_breaks_at_once(whole_app: Flask):
    _run_schemathesis(whole_app, 15)


def _run_schemathesis(app: Flask, n_examples: int) -> None:
    """No answer but success or a problem that the description allows."""
    schemathesis = pytest.importorskip("schemathesis", reason="install the test extra for `schemathesis`")
    from hypothesis import HealthCheck, given, settings
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

    schema = schemathesis.openapi.from_wsgi("/openapi.json", app)
    checks = [not_a_server_error, content_type_conformance, response_schema_conformance]
    for result in schema.get_all_operations():
        operation = result.ok()

        @given(case=operation.as_strategy())
        @settings(max_examples=n_examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        def ask(case):
            if isinstance(case.body, dict) and isinstance(case.body.get("max_tokens"), int):
                case.body["max_tokens"] = min(case.body["max_tokens"], 8)
            case.call_and_validate(checks=checks)

        ask()
