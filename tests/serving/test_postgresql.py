"""Keys, limits and budgets in a real PostgreSQL, as several servers share them: the same laws as in SQLite.

    SILO_TEST_POSTGRESQL=postgresql+psycopg://silo@127.0.0.1:5432/silo python -m pytest tests/serving/test_postgresql.py

Each test has a schema of its own in that database, and drops it.
"""

import os
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import create_engine, make_url, text

from serving import create_app
from serving.access import Access
from serving.engine import Engine
from serving.errors import OverLimit, UnknownKey
from serving.keys import KeyBook, Limits, Scope
from serving.limits import Budget, Meter
from tests.conftest import NOON, lattice_document
from tests.serving.conftest import ScriptedSilo

VARIABLE = "SILO_TEST_POSTGRESQL"
URL = os.environ.get(VARIABLE, "")

pytestmark = pytest.mark.skipif(not URL, reason=f"needs a PostgreSQL; name its URL in {VARIABLE}")


@pytest.fixture
def url() -> Iterator[str]:
    """Of a schema of its own."""
    name = f"silo_test_{secrets.token_hex(6)}"
    outside = create_engine(URL)
    with outside.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {name}"))
    inside = make_url(URL).update_query_dict({"options": f"-csearch_path={name}"})
    yield inside.render_as_string(hide_password=False)
    with outside.begin() as connection:
        connection.execute(text(f"DROP SCHEMA {name} CASCADE"))
    outside.dispose()


@pytest.fixture
def book(url) -> Iterator[KeyBook]:
    book = KeyBook(url)
    yield book
    book.engine.dispose()


def test_keys_are_made_found_and_revoked(book):
    secret, made = book.create("a client", [Scope.GENERATE, Scope.OWNER], Limits(), now=NOON)
    assert book.engine.dialect.name == "postgresql"
    assert book.find(secret) == made
    assert book.all() == [made]
    book.revoke(made.id, now=NOON)
    with pytest.raises(UnknownKey):
        book.find(secret)


@pytest.mark.parametrize("secret", ["silo_x", "silo_\x00", "\ud800", "x" * 10_000])
def test_what_is_no_key_is_unknown(book, secret):
    with pytest.raises(UnknownKey):
        book.find(secret)


def test_servers_that_start_at_once_share_one_database(url):
    with ThreadPoolExecutor(8) as pool:
        books = list(pool.map(KeyBook, [url] * 8))
    secret, made = books[0].create("a client", [Scope.OWNER], Limits(), now=NOON)
    assert all(book.find(secret) == made for book in books)
    for book in books:
        book.engine.dispose()


def test_requests_at_once_are_all_counted(book):
    _, key = book.create("a", [Scope.GENERATE], Limits(requests_per_minute=30), now=NOON)
    meter = Meter(book.engine)

    def begin(_: int) -> bool:
        try:
            meter.begin(key, NOON)
        except OverLimit:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(begin, range(50))) == 30


def test_a_budget_holds_against_requests_at_once(book):
    _, key = book.create("a", [Scope.GENERATE], Limits(), now=NOON)
    budget = Budget(book.engine, share=0.2, least=3)

    def show(n: int) -> bool:
        return budget.may_show(key, "a document", n % 100, 100, NOON)

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(show, range(100))) == 20
        assert sum(pool.map(show, range(100))) == 20, "the same sentences again"


@pytest.fixture
def owners(book, make_store):
    """Two accounts, asking an application whose keys are in PostgreSQL."""
    store = make_store([lattice_document(f"doc-{i}", seed=i) for i in range(3)])
    app = create_app(Engine(ScriptedSilo(store), clock=lambda: NOON), access=Access.of(book))

    def account():
        secret, _ = book.create("someone", [Scope.OWNER], Limits(), now=NOON)
        headers = {"Authorization": f"Bearer {secret}"}
        return lambda method, path, body=None: app.test_client().open(path, method=method, json=body, headers=headers)

    yield account(), account()
    store.close()


def test_a_request_is_its_accounts_alone(owners):
    owner, other = owners
    own = owner("POST", "/v1/opt-outs", {"document": "doc-0"}).json["id"]
    assert owner("GET", f"/v1/opt-outs/{own}").json["state"] == "received"
    for name in (own, "0" * 32, "a" * 1000, "%00", "%ff", f"{own}%00"):
        assert other("GET", f"/v1/opt-outs/{name}").status_code == 404, name
    assert owner("GET", f"/v1/opt-outs/{own}/receipt").status_code == 409


def test_of_the_same_opening_sent_at_once_one_request_is_made(owners):
    owner, _ = owners
    body = {"document": "doc-1", "idempotency_key": "once"}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: owner("POST", "/v1/opt-outs", body), range(8)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json["id"] for answer in answers}) == 1
