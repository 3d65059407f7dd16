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


WITHOUT_CHOICE = {("GET", "/v1/models")}
"""It takes nothing, so there is one request for it."""


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
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_nothing_that_the_description_allows_breaks(whole_app: Flask, method: str, path: str):
    _try(whole_app, method, path, 20_000)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_nothing_that_the_description_allows_breaks_at_once(whole_app: Flask, method: str, path: str):
    _try(whole_app, method, path, 5_000)


def _try(app: Flask, method: str, path: str, n_of_all: int) -> None:
    """Every answer is one that the description allows, for this operation's share of ``n_of_all`` requests.

    Not every request that it allows is granted: it cannot say how long a prompt may be.
    """
    import schemathesis
    from hypothesis import HealthCheck, given, settings
    from schemathesis.specs.openapi.checks import positive_data_acceptance

    schema = schemathesis.openapi.from_wsgi("/openapi.json", app)
    operation = schema[re.sub("<(?:[a-z]+:)?([a-z_]+)>", r"{\1}", path)][method]
    n_examples, n_asked = -(-n_of_all // (len(OPERATIONS) - len(WITHOUT_CHOICE))), 0

    @given(case=operation.as_strategy())
    @settings(max_examples=n_examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def ask(case):
        nonlocal n_asked
        n_asked += 1
        if isinstance(case.body, dict) and isinstance(case.body.get("max_tokens"), int):
            case.body["max_tokens"] = min(case.body["max_tokens"], 8)
        case.call_and_validate(excluded_checks=[positive_data_acceptance])

    ask()
    assert n_asked >= (1 if (method, path) in WITHOUT_CHOICE else n_examples)
