"""From asking to the receipt, as an owner without scripts walks it."""

import html
import json
import re
from dataclasses import replace
from datetime import timedelta

import pytest

from datastore import requests as asked
from datastore.compaction import compact
from datastore.rationing import Quota
from datastore.receipts import check_receipt, receipt_from_json
from datastore.request_states import State
from serving import create_app
from serving.portal import Portal
from tests.serving.portal_visitor import OWNER, TOKEN, Clock, Hosts, Visitor, forms_of, links_of, owned


@pytest.fixture
def hosts() -> Hosts:
    return Hosts()


@pytest.fixture
def clock(now) -> Clock:
    return Clock(now)


@pytest.fixture
def texts(make_store, documents):
    return make_store([owned(document) for document in documents])


@pytest.fixture
def portal(texts, hosts, clock) -> Portal:
    return Portal(texts, hosts, TOKEN, clock=clock, quota=Quota(3, 1.0))


@pytest.fixture
def app(engine, portal):
    return create_app(engine, portal=portal)


@pytest.fixture
def owner(app) -> Visitor:
    return Visitor(app)


def _ask(visitor: Visitor, document: str) -> str:
    """Ask to take ``document`` out; the id of the request."""
    visitor.go(f"/owners/document?id={document}")
    visitor.submit("/owners/requests")
    return visitor.at.rsplit("/", 1)[1]


def _choose(visitor: Visitor, method: str) -> str:
    return visitor.submit("/challenge", which=lambda form: form.values["method"] == method)


def _codes(page: str) -> list[str]:
    return [html.unescape(code) for code in re.findall(r'<pre class="copy"><code>(.*?)</code></pre>', page, re.S)]


def _sign(visitor: Visitor) -> str:
    message = _codes(_choose(visitor, "key"))[0]
    return visitor.submit("/proof", signature=OWNER.sign(message.encode()).hex().upper())


def _state(portal: Portal, id_: str) -> State:
    return asked.request(portal.store, id_).state


def test_a_signature_puts_the_opt_out_in_force_and_gives_a_receipt_that_verifies(owner, portal):
    id_ = _ask(owner, "doc-3")
    assert "waiting for your proof" not in owner.page
    assert "It is out" in _sign(owner)
    assert _state(portal, id_) is State.ACCEPTED
    assert portal.store.live_entries("doc-3") == 0
    got = owner.web.get(next(link for link in links_of(owner.page) if link.endswith("receipt.json")))
    assert got.headers["Content-Disposition"].startswith("attachment")
    receipt = receipt_from_json(json.loads(got.text))
    check_receipt(receipt)
    assert receipt.document == "doc-3"
    owner.go("/verify")
    assert "It holds" in owner.submit("/verify", file=got.data)


def test_a_dns_record_and_a_file_put_it_in_force(owner, portal, hosts):
    for document, method in (("doc-1", "dns"), ("doc-2", "file")):
        id_ = _ask(owner, document)
        place, shown = _codes(_choose(owner, method))[:2]
        assert "does not show" in owner.submit("/proof") or "expected host" in owner.page
        assert owner.status == 422
        assert _state(portal, id_) is State.CHALLENGED
        if method == "dns":
            assert place == "_silo-challenge.press.example.org"
            hosts.show_record(shown)
        else:
            assert place.startswith("https://press.example.org/.well-known/silo-challenge/")
            hosts.show_file(place.rsplit("/", 1)[1], shown)
        assert "It is out" in owner.submit("/proof"), "the page that said no still has its form"
        assert _state(portal, id_) is State.ACCEPTED


def test_the_link_of_a_challenge_works_in_another_browser_and_ends_with_it(owner, app, portal, clock):
    _ask(owner, "doc-1")
    message = _codes(_choose(owner, "key"))[0]
    elsewhere = Visitor(app)
    assert _codes(elsewhere.go(owner.at))[0] == message
    clock.now += timedelta(days=8)
    assert "expired" in elsewhere.submit("/proof", signature=OWNER.sign(message.encode()).hex())
    clock.now -= timedelta(days=8)
    assert "It is out" in owner.submit("/proof", signature=OWNER.sign(message.encode()).hex())
    assert "It is out" in elsewhere.go(owner.at)


def test_another_signature_is_refused(owner, portal):
    id_ = _ask(owner, "doc-1")
    _choose(owner, "key")
    for signature in ("", "00" * 64, "no hex", OWNER.sign(b"something else").hex()):
        owner.submit("/proof", signature=signature)
        assert (owner.status, _state(portal, id_)) == (422, State.CHALLENGED)


def test_the_text_alone_hides_and_the_reviewer_decides(owner, app, portal, documents):
    id_ = _ask(owner, "doc-4")
    assert "not that of the document" in owner.submit("/proof", text="some other words " * 8)
    assert owner.status == 422
    assert "hidden, waiting for a reviewer" in owner.submit("/proof", text=documents[4].text.upper())
    assert portal.store.document("doc-4").state == "hidden"
    assert owner.web.get(f"/owners/requests/{id_}/receipt.json").status_code == 404


def test_an_uploaded_text_counts_like_a_pasted_one(owner, portal, documents):
    id_ = _ask(owner, "doc-4")
    owner.submit("/proof", upload=documents[4].text.encode())
    assert _state(portal, id_) is State.PROVISIONAL


def test_hiding_is_rationed_by_address(owner, documents):
    _ask(owner, "doc-4")
    for status in (422, 422, 422, 429):
        owner.submit("/proof", text="wrong words " * 10)
        assert owner.status == status


def test_a_form_that_is_sent_twice_opens_one_request_and_another_document_another(owner, portal):
    owner.go("/owners/document?id=doc-1")
    page = owner.page
    owner.submit("/owners/requests")
    first, owner.page = owner.at, page
    owner.submit("/owners/requests")
    assert owner.at == first
    owner.page = page
    owner.submit("/owners/requests", document="doc-2")
    assert owner.at != first
    assert len(asked.requests(portal.store)) == 2


def test_a_rival_with_a_proof_goes_before_a_reviewer(owner, portal, hosts, now):
    first = asked.open_request(portal.store, "doc-5", key="rival", now=now).id
    made = asked.challenge(portal.store, first, asked.Method.DNS, now=now)
    hosts.show_record(f"silo-challenge={made.content}")
    asked.prove(portal.store, first, asked.ownership.HostProof(made.token), now=now, hosts=hosts)
    id_ = _ask(owner, "doc-5")
    message = _codes(_choose(owner, "key"))[0]
    assert "a reviewer will decide" in owner.page
    owner.submit("/proof", signature=OWNER.sign(message.encode()).hex(), words="I <b>wrote</b> it")
    assert _state(portal, id_) is State.DISPUTED
    assert "The requester says: I <b>wrote</b> it" in asked.request(portal.store, id_).note
    assert "I &lt;b&gt;wrote&lt;/b&gt; it" in owner.page
    assert portal.store.document("doc-5").state == "live"


def test_a_rejection_can_be_appealed_once_there_are_reasons(owner, portal, documents, now):
    id_ = _ask(owner, "doc-4")
    owner.submit("/proof", text=documents[4].text)
    asked.decide(portal.store, id_, State.REJECTED, now=now, note="It is in the <public> domain.")
    assert "in the &lt;public&gt; domain" in owner.go(f"/owners/requests/{id_}")
    owner.submit("/appeal", words="  ")
    assert (owner.status, _state(portal, id_)) == (409, State.REJECTED)
    owner.submit("/appeal", words="It is not.")
    assert _state(portal, id_) is State.DISPUTED
    note = asked.request(portal.store, id_).note
    assert note == "It is in the <public> domain.\nThe requester appeals: It is not."


def test_only_a_rejected_request_is_appealed(owner, app, portal):
    id_ = _ask(owner, "doc-4")
    token = re.search(r'name="form_token" value="(\w+)"', owner.page)
    sent = owner.web.post(f"/owners/requests/{id_}/appeal", data={"form_token": token[1], "words": "x"})
    assert (sent.status_code, _state(portal, id_)) == (409, State.RECEIVED)


def test_a_proof_that_a_crash_kept_from_its_decision_is_settled_from_the_page(owner, portal, now):
    id_ = _ask(owner, "doc-6")
    made = asked.challenge(portal.store, id_, asked.Method.KEY, now=now)
    proof = asked.KeyProof(made.token, OWNER.sign(made.message).hex())
    asked.prove(portal.store, id_, proof, now=now)
    assert "Your proof holds" in owner.go(f"/owners/requests/{id_}")
    assert "It is out" in owner.submit("/settle")


def test_whoever_comes_second_sees_that_it_is_out_and_gets_no_receipt(owner, app):
    _ask(owner, "doc-3")
    other = Visitor(app)
    id_ = _ask(other, "doc-3")
    _sign(owner)
    assert "It is out already" in other.go(f"/owners/requests/{id_}")
    assert other.web.get(f"/owners/requests/{id_}/receipt.json").status_code == 404


def test_the_page_follows_the_document_to_its_erasure(owner, portal):
    id_ = _ask(owner, "doc-3")
    _sign(owner)
    compact(portal.store)
    assert "in force, and erased" in owner.go(f"/owners/requests/{id_}")


@pytest.mark.parametrize("rest", ["", "/challenge", "/receipt.json"])
def test_an_unknown_link_and_a_foreign_one_answer_alike(owner, rest):
    answers = {owner.web.get(f"/owners/requests/{guess}{rest}").text for guess in ("0" * 32, "doc-1", "f" * 32)}
    assert len({re.sub(r"urn:uuid:[0-9a-f-]+", "", answer) for answer in answers}) == 1


def test_what_no_host_or_key_can_prove_offers_the_text_alone(engine, make_store, documents, hosts):
    bare = [replace(documents[0], facts=replace(documents[0].facts, url="https://127.0.0.1/x"))]
    visitor = Visitor(create_app(engine, portal=Portal(make_store(bare), hosts)))
    _ask(visitor, "doc-0")
    assert "the text is the one proof there is" in visitor.page
    assert "challenge" not in "".join(form.action for form in _forms(visitor))


def test_without_a_network_no_proof_by_host_is_offered(engine, texts):
    visitor = Visitor(create_app(engine, portal=Portal(texts)))
    _ask(visitor, "doc-0")
    assert {form.values["method"] for form in _forms(visitor) if "method" in form.values} == {"key", "possession"}


@pytest.mark.parametrize(
    ("path", "sent", "status"),
    [
        ("challenge", {"method": "possession"}, 422),
        ("challenge", {"method": "no such"}, 400),
        ("challenge", {}, 400),
        ("proof", {"method": "no such"}, 400),
        ("proof", {"method": "key", "token": "x" * 5000}, 400),
        ("proof", {"method": "dns", "token": "0" * 64, "until": "2026"}, 400),
        ("proof", {"method": "possession", "text": "x " * 400_000}, 413),
    ],
)
def test_a_bad_form_is_told_what_is_wrong(owner, path, sent, status):
    id_ = _ask(owner, "doc-1")
    token = re.search(r'name="form_token" value="(\w+)"', owner.page)[1]
    got = owner.web.post(f"/owners/requests/{id_}/{path}", data={"form_token": token} | sent)
    assert got.status_code == status, got.text
    assert got.mimetype == "text/html"


def _forms(visitor: Visitor):
    return [form for form in forms_of(visitor.page) if "/owners/requests/" in form.action]
