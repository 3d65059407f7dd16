"""Owners take their documents out over HTTP, with a proof; nobody else learns or changes anything."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from flask.testing import FlaskClient

from datastore.hosts import Fetched
from datastore.ownership import SUBMITTER_KEY
from datastore.receipts import receipt_from_json
from datastore.verification import verify
from serving import create_app
from serving.access import Access
from serving.engine import Engine
from serving.keys import KeyBook, Limits, Scope
from tests.conftest import NOON, lattice_document
from tests.serving.conftest import ScriptedSilo

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()


class Hosts:
    """Answers as it is told to."""

    def __init__(self) -> None:
        self.records: dict[str, list[str]] = {}
        self.files: dict[str, bytes] = {}

    def txt(self, name):
        return self.records.get(name, [])

    def well_known(self, host, path):
        body = self.files.get(f"https://{host}{path}")
        return Fetched(host, path, "93.184.216.34", 404 if body is None else 200, body or b"")


def _with(document, **facts):
    from dataclasses import replace

    return replace(document, facts=replace(document.facts, **facts))


@pytest.fixture
def store(make_store):
    documents = [lattice_document(f"doc-{i}", seed=i) for i in range(6)]
    documents[0] = _with(documents[0], metadata={SUBMITTER_KEY: PUBLIC})
    documents[1] = _with(documents[1], url="https://news.example.org/a")
    store = make_store(documents)
    yield store
    store.close()


@pytest.fixture
def hosts() -> Hosts:
    return Hosts()


@pytest.fixture
def open_app(store, hosts):
    def make(**more):
        engine = Engine(ScriptedSilo(store), clock=lambda: NOON)
        return create_app(engine, hosts=hosts, **more).test_client()

    return make


@pytest.fixture
def web(open_app) -> FlaskClient:
    return open_app()


def _open(web, document: str, **more) -> str:
    response = web.post("/v1/opt-outs", json={"document": document} | more)
    assert (response.status_code, response.json["state"]) == (201, "received")
    return f"/v1/opt-outs/{response.json['id']}"


def _challenge(web, path: str, method: str) -> dict:
    return web.post(f"{path}/challenge", json={"method": method}).json


def _check_out(web, store, path: str, document: str) -> None:
    assert web.get(path).json["state"] == "accepted"
    receipt = receipt_from_json(web.get(f"{path}/receipt").json)
    assert receipt.document == document
    verify(store, receipt)
    assert web.get(f"/v1/documents/{document}").json["state"] == "removed"


def test_the_submitters_key_takes_a_document_out(web, store):
    path = _open(web, "doc-0")
    asked = _challenge(web, path, "key")
    assert asked["place"] == PUBLIC
    proof = {"method": "key", "token": asked["token"], "signature": KEY.sign(asked["message"].encode()).hex()}
    assert web.post(f"{path}/proof", json=proof).json["state"] == "accepted"
    _check_out(web, store, path, "doc-0")


@pytest.mark.parametrize("method", ["dns", "file"])
def test_the_documents_host_takes_it_out(web, store, hosts, method):
    path = _open(web, "doc-1")
    asked = _challenge(web, path, method)
    proof = {"method": method, "token": asked["token"]}
    assert web.post(f"{path}/proof", json=proof).status_code == 403
    hosts.records[asked["place"]] = [f"silo-challenge={asked['content']}"]
    hosts.files[asked["place"]] = asked["content"].encode()
    assert web.post(f"{path}/proof", json=proof).json["state"] == "accepted"
    _check_out(web, store, path, "doc-1")


def test_possession_hides_a_document_until_somebody_decides(web, store):
    path = _open(web, "doc-2")
    proof = {"method": "possession", "text": store.stored_text("doc-2")}
    assert web.post(f"{path}/proof", json=proof).json["state"] == "provisional"
    assert web.get("/v1/documents/doc-2").json["state"] == "hidden"
    assert web.get(f"{path}/receipt").status_code == 409
    assert web.post(f"{path}/decision", json={"decision": "rejected", "note": "not theirs"}).json["state"] == "rejected"
    assert web.get("/v1/documents/doc-2").json["state"] == "live"


def test_the_same_idempotency_key_opens_the_same_request(web):
    assert _open(web, "doc-3", idempotency_key="k") == _open(web, "doc-3", idempotency_key="k")
    assert _open(web, "doc-3") != _open(web, "doc-3")
    assert web.post("/v1/opt-outs", json={"document": "doc-4", "idempotency_key": "k"}).status_code == 409


@pytest.mark.parametrize(
    ("proof", "status"),
    [
        ({"method": "key", "token": "0" * 64, "signature": "0" * 128}, 403),
        ({"method": "dns", "token": "0" * 64}, 403),
        ({"method": "possession", "text": "some other text"}, 403),
        ({"method": "key", "token": "0" * 64}, 400),
        ({"method": "possession"}, 400),
        ({"method": "guess"}, 400),
        ({"method": "key", "token": "Z" * 64, "signature": "0" * 128}, 400),
    ],
)
def test_a_proof_that_shows_nothing_changes_nothing(web, store, proof, status):
    path = _open(web, "doc-0")
    _challenge(web, path, "key")
    assert web.post(f"{path}/proof", json=proof).status_code == status
    assert web.get("/v1/documents/doc-0").json["state"] == "live"


@pytest.fixture
def clients(open_app, tmp_path):
    """Two owners with keys of their own, and an administrator."""
    book = KeyBook(tmp_path / "keys.sqlite")
    web = open_app(access=Access.of(book))

    def client(scope: Scope):
        limits = Limits(requests_per_minute=100_000)
        secret, _ = book.create("someone", [scope], limits, now=NOON)

        def ask(method: str, path: str, body: dict | None = None):
            return web.open(path, method=method, json=body, headers={"Authorization": f"Bearer {secret}"})

        return ask

    yield client(Scope.OWNER), client(Scope.OWNER), client(Scope.ADMIN)
    book.engine.dispose()


ATTEMPTS = {
    "look": ("GET", "", None),
    "receipt": ("GET", "/receipt", None),
    "challenge": ("POST", "/challenge", {"method": "key"}),
    "sign": ("POST", "/proof", {"method": "key", "token": "0" * 64, "signature": "0" * 128}),
    "host": ("POST", "/proof", {"method": "dns", "token": "0" * 64}),
    "text": ("POST", "/proof", {"method": "possession", "text": "a text"}),
}


@pytest.mark.parametrize(("method", "path", "body"), ATTEMPTS.values(), ids=ATTEMPTS.keys())
def test_a_foreign_request_answers_as_one_that_never_was(clients, method, path, body):
    owner, other, _ = clients
    own = owner("POST", "/v1/opt-outs", {"document": "doc-0"}).json["id"]
    names = [own, "0" * 32, own[:-1], own.upper() + "0", "..", "a" * 1000]
    answers = [other(method, f"/v1/opt-outs/{name}{path}", body) for name in names]
    assert {answer.status_code for answer in answers} == {404}
    foreign, unknown = answers[0].json, answers[1].json
    assert {k: v for k, v in foreign.items() if k != "instance"} == {
        k: v for k, v in unknown.items() if k != "instance"
    }
    assert owner("GET", f"/v1/opt-outs/{own}").json["state"] == "received"


def test_accounts_with_the_same_idempotency_key_do_not_meet(clients):
    owner, other, _ = clients
    body = {"document": "doc-0", "idempotency_key": "same"}
    assert owner("POST", "/v1/opt-outs", body).json["id"] != other("POST", "/v1/opt-outs", body).json["id"]


def test_documents_are_listed_in_pages(web):
    first = web.get("/v1/documents?limit=4").json
    assert [document["id"] for document in first["data"]] == ["doc-0", "doc-1", "doc-2", "doc-3"]
    rest = web.get(f"/v1/documents?limit=4&after={first['last_id']}").json
    assert [document["id"] for document in rest["data"]] == ["doc-4", "doc-5"]
    assert (first["has_more"], rest["has_more"]) == (True, False)
    web.post("/v1/optouts", json={"document": "doc-1"})
    assert [document["id"] for document in web.get("/v1/documents?state=removed").json["data"]] == ["doc-1"]


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=-1", "limit=x", "limit=²", "state=gone", "page=2", "limit=" + "9" * 9999]
)
def test_a_strange_page_is_refused(web, query):
    assert web.get(f"/v1/documents?{query}").status_code == 400
